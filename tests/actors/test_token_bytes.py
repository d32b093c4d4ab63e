"""Bytes of tokens, and from a character back to its tokens, for byte-level BPE and SentencePiece with byte fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.token_bytes import GrowingText, TokenBytes
from tests.vocabularies import SPECIAL, TEXTS, byte_level, mistral, sentence_piece

KINDS = {"byte-level": byte_level, "sentencepiece": sentence_piece}
kinds = st.sampled_from(sorted(KINDS))
scripts = st.one_of(
    st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=8),  # Hangul
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=8),  # Han
    st.text(st.characters(min_codepoint=0x3041, max_codepoint=0x30FE), min_size=1, max_size=8),  # kana
    st.text(st.characters(min_codepoint=0x0621, max_codepoint=0x064A), min_size=1, max_size=8),  # Arabic
    st.sampled_from(["гривня", " yen ", "😀👍🏽", "שקל", "บาท", "\n", "e\u0301", "𠮷"]),
    st.sampled_from([word for text in TEXTS for word in text.split()]),
)
texts = st.lists(scripts, min_size=1, max_size=12).map("".join)


def tables() -> dict[str, TokenBytes]:
    return {name: TokenBytes(make()) for name, make in KINDS.items()}


TABLES = tables()


def sampled(kind: str, data: st.DataObject) -> list[int]:
    """Draw token ids as a model might sample them: an encoding, arbitrary ids, or a mixture."""
    tokenizer = KINDS[kind]()
    anything = st.lists(st.integers(0, len(tokenizer) + 5), max_size=30)
    encoded = texts.map(lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]))
    parts = data.draw(st.lists(st.one_of(encoded, anything), min_size=1, max_size=3))
    return [token for part in parts for token in part]


@settings(max_examples=300)
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


@settings(max_examples=200)
@given(kinds, texts)
def test_the_bytes_of_an_encoding_are_the_text(kind: str, text: str) -> None:
    ids = KINDS[kind]()(text, add_special_tokens=False)["input_ids"]
    assert TABLES[kind].text(ids) == text


@settings(max_examples=200)
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


@pytest.mark.parametrize("kind", sorted(KINDS))
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
def test_special_and_padded_ids_have_no_bytes(kind: str) -> None:
    tokenizer, table = KINDS[kind](), TABLES[kind]
    assert [table[token] for token in tokenizer.convert_tokens_to_ids(SPECIAL)] == [b"", b""]
    assert table[len(tokenizer) + 10_000] == b""


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
