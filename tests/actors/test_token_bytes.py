"""Bytes of tokens, and from a character back to its tokens, for vocabularies of all supported kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from actors.token_bytes import GrowingText, TokenBytes
from tests.vocabularies import SPECIAL, TEXTS, byte_level, mistral, sentence_piece
from tlpo_ray.errors import ModelError

SPECIAL_ONLY_BY_MARK = ["<|eot|>", "<|reserved_0|>"]
"""Added tokens that are special but have no name such as `eos_token`: most of Llama 3.1, gpt-oss and Tekken."""
PRINTED = ["<think>", "<unused0>", "<｜tool▁sep｜>", "é", "생각 "]
"""Added tokens that decoding prints."""
RUNS = ["▁" * length for length in (2, 3, 16, 31)]
"""Gemma's added tokens for runs of spaces."""
HOLE = range(300, 350)
"""Ids that a vocabulary leaves out."""


def extended(tokenizer: Any, special: list[str], printed: list[str]) -> Any:
    """Return a copy of a tokenizer with added tokens that are special only by their mark, and with others."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in printed])
    return fast(backend)


def fast(backend: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL[0], pad_token=SPECIAL[1])


@cache
def byte_level_with_added() -> Any:
    """Return a vocabulary like those of Llama 3.1, Qwen3 and DeepSeek."""
    return extended(byte_level(), SPECIAL_ONLY_BY_MARK, PRINTED)


@cache
def byte_level_with_hole() -> Any:
    """Return a vocabulary whose ids are not consecutive: the largest is not their number."""
    state = json.loads(byte_level_with_added().backend_tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][: len(SPECIAL)]
    vocabulary = state["model"]["vocab"]
    for token, index in vocabulary.items():
        vocabulary[token] = index + len(HOLE) * (index >= HOLE.start)
    return fast(Tokenizer.from_str(json.dumps(state)))


@cache
def gemma_like() -> Any:
    """Return a vocabulary whose runs of spaces, and some of whose byte tokens, are added tokens."""
    state = json.loads(sentence_piece().backend_tokenizer.to_str())
    # Ids stay as they are: an added token of the vocabulary keeps its own.
    bytes_ = [f"<0x{byte:02X}>" for byte in (0xE4, 0xED, 0x41)]
    return extended(fast(Tokenizer.from_str(json.dumps(state))), SPECIAL_ONLY_BY_MARK, [*RUNS, *PRINTED, *bytes_])


@cache
def llama2_like() -> Any:
    """Return a vocabulary whose decoder drops one space at the beginning of a text."""
    tokenizer = extended(sentence_piece(), SPECIAL_ONLY_BY_MARK, PRINTED)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


@cache
def unigram() -> Any:
    """Return a vocabulary without byte tokens, whose decoder drops the spaces of the first token."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS * 4, trainer)
    return extended(fast(backend), SPECIAL_ONLY_BY_MARK, PRINTED)


KINDS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "byte-level with added tokens": byte_level_with_added,
    "byte-level with a hole": byte_level_with_hole,
    "SentencePiece": sentence_piece,
    "SentencePiece like Gemma": gemma_like,
    "SentencePiece like Llama 2": llama2_like,
    "SentencePiece without byte tokens": unigram,
}
DROPS_SPACE = {"SentencePiece like Llama 2", "SentencePiece without byte tokens"}
"""Kinds whose decoders drop spaces of the first token."""
SPELLS_ALL = sorted(KINDS.keys() - {"SentencePiece without byte tokens"})
"""Kinds that can spell every text."""
kinds = st.sampled_from(sorted(KINDS))
scripts = st.one_of(
    st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=8),  # Hangul
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=8),  # Han
    st.text(st.characters(min_codepoint=0x3041, max_codepoint=0x30FE), min_size=1, max_size=8),  # kana
    st.text(st.characters(min_codepoint=0x0621, max_codepoint=0x064A), min_size=1, max_size=8),  # Arabic
    st.sampled_from(["гривня", " yen ", "😀👍🏽", "שקל", "บาท", "\n", "e\u0301", "𠮷", "*   ", "\n    ", "<think>"]),
    st.sampled_from([word for text in TEXTS for word in text.split()]),
)
texts = st.lists(scripts, min_size=1, max_size=12).map("".join)
TABLES = {name: TokenBytes(make()) for name, make in KINDS.items()}


def num_ids(tokenizer: Any) -> int:
    return 1 + int(max(tokenizer.get_vocab().values()))


def decoded(tokenizer: Any, ids: list[int]) -> str:
    """Return what the tokenizer itself makes of an answer."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def sampled(kind: str, data: st.DataObject) -> list[int]:
    """Draw token ids as a model might sample them: an encoding, arbitrary ids, or a mixture."""
    tokenizer = KINDS[kind]()
    anything = st.lists(st.integers(0, num_ids(tokenizer) + 5), max_size=30)
    encoded = texts.map(lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]))
    parts = data.draw(st.lists(st.one_of(encoded, anything), min_size=1, max_size=3))
    return [token for part in parts for token in part]


def assert_is_decoded(kind: str, ids: list[int]) -> None:
    """Assert that the text of some tokens is what the tokenizer makes of them, except where `TokenBytes` differs."""
    tokenizer, text = KINDS[kind](), TABLES[kind].text(ids)
    if kind in DROPS_SPACE:
        expected = decoded(tokenizer, [tokenizer.convert_tokens_to_ids("<think>"), *ids]).removeprefix("<think>")
    else:
        expected = decoded(tokenizer, ids)
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert text == expected
    elif kind.startswith("byte-level"):
        assert TABLES[kind].join(ids).decode("utf-8", errors="replace") == expected


@settings(max_examples=500)
@given(kinds, st.data())
def test_text_is_what_the_tokenizer_decodes(kind: str, data: st.DataObject) -> None:
    assert_is_decoded(kind, sampled(kind, data))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_single_id_is_what_the_tokenizer_decodes(kind: str) -> None:
    for token in range(num_ids(KINDS[kind]()) + 5):
        assert_is_decoded(kind, [token])


@settings(max_examples=500)
@given(kinds, st.data())
def test_token_c_is_the_first_with_a_byte_of_the_character(kind: str, data: st.DataObject) -> None:
    table = TABLES[kind]
    ids = sampled(kind, data)
    text = table.text(ids)
    if not text:
        return
    index = data.draw(st.integers(0, len(text) - 1))
    start = len(text[:index].encode("utf-8", "surrogateescape"))
    end = len(text[: index + 1].encode("utf-8", "surrogateescape"))
    c, last = table.tokens_of_character(ids, text, index)
    assert len(table.join(ids[:c])) <= start
    assert len(table.join(ids[: c + 1])) > start
    assert c <= last
    assert len(table.join(ids[:last])) < end <= len(table.join(ids[: last + 1]))
    assert table.join(ids)[start:end].decode("utf-8", "surrogateescape") == text[index]


@settings(max_examples=300)
@given(st.sampled_from(SPELLS_ALL), texts)
def test_the_bytes_of_an_encoding_are_the_text(kind: str, text: str) -> None:
    ids = KINDS[kind]()(text, add_special_tokens=False)["input_ids"]
    assert TABLES[kind].text(ids) == text


@settings(max_examples=300)
@given(kinds, st.data())
def test_growing_text_is_always_a_prefix_of_the_complete_text(kind: str, data: st.DataObject) -> None:
    """The text after any number of tokens is a prefix of the complete text; unfinished bytes are held back."""
    table = TABLES[kind]
    ids = sampled(kind, data)
    growing = GrowingText(table)
    whole, text = table.text(ids), ""
    for count, token in enumerate(ids, start=1):
        text += growing.push([token])
        assert whole.startswith(text)
        held = len(table.join(ids[:count])) - len(text.encode("utf-8", "surrogateescape"))
        assert 0 <= held <= 3


@pytest.mark.parametrize("kind", SPELLS_ALL)
def test_a_character_in_several_tokens_and_a_token_of_several_characters(kind: str) -> None:
    tokenizer, table = KINDS[kind](), TABLES[kind]
    rare = tokenizer("𠮷", add_special_tokens=False)["input_ids"]
    assert len(rare) > 1, "needs byte tokens"
    known = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert any(len(table.text([token])) > 1 for token in known), "needs a token of several characters"
    ids = [*known, *rare]
    text = table.text(ids)
    assert table.tokens_of_character(ids, text, text.index("𠮷")) == (len(known), len(ids) - 1)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_special_padded_and_missing_ids_have_no_bytes(kind: str) -> None:
    tokenizer, table = KINDS[kind](), TABLES[kind]
    special = [token for token in [*SPECIAL, *SPECIAL_ONLY_BY_MARK] if token in tokenizer.get_vocab()]
    assert len(special) >= len(SPECIAL)
    assert {table[tokenizer.convert_tokens_to_ids(token)] for token in special} == {b""}
    assert table[num_ids(tokenizer) + 10_000] == b""
    if "hole" in kind:
        assert {table[token] for token in HOLE} == {b""}
        assert num_ids(tokenizer) > len(tokenizer)


def test_runs_of_spaces_are_spaces_although_they_are_added_tokens() -> None:
    tokenizer, table = gemma_like(), TABLES["SentencePiece like Gemma"]
    for text in ('{\n  "답": 1\n}', "*   제목", "좋다" + " " * 31 + "너무"):
        ids = tokenizer(text.replace(" ", "▁"), add_special_tokens=False)["input_ids"]
        assert set(ids) & set(tokenizer.convert_tokens_to_ids(RUNS)), "needs a run of spaces"
        assert table.text(ids) == text


@pytest.mark.parametrize("kind", ["byte-level with added tokens", "SentencePiece like Gemma"])
def test_added_tokens_that_are_printed_have_their_text(kind: str) -> None:
    tokenizer, table = KINDS[kind](), TABLES[kind]
    for token in ("<think>", "<unused0>", "생각 "):
        assert table.text([tokenizer.convert_tokens_to_ids(token)]) == token


@pytest.mark.parametrize("kind", sorted(DROPS_SPACE))
def test_spaces_of_the_first_token_stay_where_the_decoder_drops_them(kind: str) -> None:
    tokenizer, table = KINDS[kind](), TABLES[kind]
    ids = tokenizer(" 일본의 통화", add_special_tokens=False)["input_ids"]
    assert decoded(tokenizer, ids) == "일본의 통화"
    assert table.text(ids) == " 일본의 통화"


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.WordPiece(),
        decoders.BPEDecoder(),
        decoders.Sequence([decoders.ByteFallback(), decoders.CTC()]),
        decoders.Fuse(),
    ],
    ids=lambda decoder: type(decoder).__name__,
)
def test_a_vocabulary_of_another_kind_is_refused(decoder: Any) -> None:
    backend = Tokenizer.from_str(sentence_piece().backend_tokenizer.to_str())
    backend.decoder = decoder
    with pytest.raises(
        ModelError, match="is neither byte-level nor SentencePiece, so the bytes of its tokens are unknown"
    ):
        TokenBytes(fast(backend))


def test_a_published_vocabulary(tmp_path: Path) -> None:
    tokenizer: Any = mistral(tmp_path)
    table = TokenBytes(tokenizer)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert table.text(ids).removeprefix(" ") == text  # SentencePiece puts a space in front
        whole = table.text(ids)
        for index, character in enumerate(whole):
            c, _ = table.tokens_of_character(ids, whole, index)
            assert character not in table.text(ids[:c])[index:]
            assert table.join(ids[: c + 1]).startswith(whole[:index].encode())
