"""Answers end at the first stop string in their text, wherever tokens begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import detectors
from actors.confusion import AnswerText, StreamingDetector, answer_ids, confusion_point, cut_at_stop_string
from actors.engine import EngineOptions, TokenEngine
from actors.hf_engine import TransformersEngine
from actors.token_bytes import TokenBytes
from actors.worker import RolloutWorker
from tests.tiny import make_tokenizer
from tests.vocabularies import byte_level, sentence_piece
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt
from tlpo_ray.flow.tokenizer import load_tokenizer

TABLES = {"byte-level": TokenBytes(byte_level()), "sentencepiece": TokenBytes(sentence_piece())}
ENCODERS = {"byte-level": byte_level(), "sentencepiece": sentence_piece()}
TEXT = "ab\n엔 єna🙂"
STOPS = st.lists(st.text(TEXT, min_size=1, max_size=4), max_size=3).map(tuple)
ENGLISH_STOPS = st.lists(st.text("\nQuestion:엔b", min_size=1, max_size=6), max_size=3).map(tuple)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return the first place at which a stop string begins, by trying all of them."""
    for start in range(len(text)):
        if any(text[start : start + len(stop)] == stop for stop in stops):
            return start
    return None


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Draw a kind of tokenizer and tokens: of a text, of the bytes of a text, or any at all."""
    kind = draw(st.sampled_from(sorted(TABLES)))
    encoder, table = ENCODERS[kind], TABLES[kind]
    text = draw(st.text(TEXT, max_size=30))
    how = draw(st.sampled_from(["encoded", "bytes", "any"]))
    if how == "encoded":
        return kind, list(encoder(text, add_special_tokens=False)["input_ids"])
    if how == "any":
        return kind, draw(st.lists(st.integers(0, len(encoder) - 1), max_size=20))
    single = {table[token]: token for token in range(len(encoder)) if len(table[token]) == 1}
    # Any bytes, not only those of characters: they become lone surrogates in the text.
    data = text.encode() + draw(st.binary(max_size=3))
    return kind, [single[bytes([byte])] for byte in data]


@given(st.text(TEXT), STOPS)
@example("ab", ("abc", "b"))
@example("abc", ("abc", "b"))
def test_a_text_is_cut_at_the_first_occurrence_of_any(text: str, stops: tuple[str, ...]) -> None:
    assert cut_at_stop_string(text, stops) == text[: first_stop(text, stops)]


@settings(max_examples=400)
@given(answers(), STOPS)
def test_streaming_finds_the_same_end_as_the_complete_text(
    answer: tuple[str, list[int]], stops: tuple[str, ...]
) -> None:
    kind, ids = answer
    growing = AnswerText(TABLES[kind], stops)
    pushed = 0
    released = ""
    while pushed < len(ids) and not growing.is_complete:
        released += growing.push([ids[pushed]])
        pushed += 1
        # What is released is never taken back, whatever is sampled afterwards.
        assert cut_at_stop_string(TABLES[kind].text(ids), stops).startswith(released)
    text = TABLES[kind].text(ids)
    if growing.is_complete:
        assert released == cut_at_stop_string(text, stops) == cut_at_stop_string(TABLES[kind].text(ids[:pushed]), stops)
        assert released != text
        assert growing.push([ids[0]]) == ""
    else:
        # Not found: there is none, or its last bytes are a character that a further token may still complete.
        assert first_stop(text, stops) is None or text[-1] >= "\udc80"


@settings(max_examples=400)
@given(answers(), STOPS)
def test_the_answer_s_tokens_are_those_with_a_byte_before_the_stop(
    answer: tuple[str, list[int]], stops: tuple[str, ...]
) -> None:
    kind, ids = answer
    table = TABLES[kind]
    cut = len(cut_at_stop_string(table.text(ids), stops).encode("utf-8", "surrogateescape"))
    kept = answer_ids(ids, table, stops)
    if cut == len(table.join(ids)):
        assert kept == ids
        return
    assert kept == ids[: len(kept)]
    assert len(table.join(kept)) >= cut
    assert not kept or len(table.join(kept[:-1])) < cut


@settings(max_examples=400)
@given(answers(), ENGLISH_STOPS)
def test_nothing_behind_a_stop_string_is_confusion(answer: tuple[str, list[int]], stops: tuple[str, ...]) -> None:
    kind, ids = answer
    table, detector = TABLES[kind], detectors.language("ko", "confusion")
    before = cut_at_stop_string(table.text(ids), stops)
    point = confusion_point(ids, table, detector, stops)
    finding = detector.find(before)
    assert (None if point is None else point.finding) == finding
    streaming = StreamingDetector(table, detector, stops)
    stopped = next((number for number, token in enumerate(ids) if streaming.stop_condition([token])), None)
    assert streaming.error is None
    if stopped is not None:
        again = confusion_point(ids[: stopped + 1], table, detector, stops)
        assert (again is None) == (point is None)
        assert again is None or point is None or again.token == point.token
    if point is not None:
        assert table.tokens_of_character(ids, before, point.finding.start) == (point.token, point.last_token)
        assert point.last_token < len(answer_ids(ids, table, stops))


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_a_stop_string_of_foreign_letters_is_not_a_confusion(kind: str) -> None:
    table, stops = TABLES[kind], ("\nwhat is it",)
    ids = ENCODERS[kind]("엔입니다.\nwhat is it 엔", add_special_tokens=False)["input_ids"]
    detector = detectors.language("ko", "confusion")
    without = confusion_point(ids, table, detector)
    assert without is not None and without.finding.text == "what"
    assert confusion_point(ids, table, detector, stops) is None
    streaming = StreamingDetector(table, detector, stops)
    stopped = [streaming.stop_condition([token]) for token in ids]
    assert stops[0] in table.text(ids[: stopped.index(True) + 1]), "held back until it is complete"


# ----------------------------------------------------------------------------------------------- with a real engine

PROMPTS = [Prompt(index=n, id=str(n), language="ko", text=f"{n}번째 통화는?") for n in range(12)]
ROLLOUT = RolloutConfig(engine="transformers", temperature=1.0, max_new_tokens=24, concurrency=6, num_candidates=4)


def make_worker(folder: Path, stops: tuple[str, ...], engine: TokenEngine | None = None) -> RolloutWorker:
    model = ModelConfig(path=str(folder), dtype="float32", max_context=96, stop_strings=stops)
    engine = engine or TransformersEngine(model, ROLLOUT, EngineOptions())
    return RolloutWorker(engine, model, ROLLOUT, DetectorConfig(), seed=3)


def frequent_texts(folder: Path) -> tuple[str, ...]:
    """Return two letters that many answers of the tiny model contain, some of them within tokens."""
    completions = make_worker(folder, ()).generate(PROMPTS, 2, 1.0, 24, 0)
    letters = "".join(completion.text for completion in completions)
    common = sorted({letter for letter in letters if letter.isalnum()}, key=letters.count)
    return common[-1], common[-2]


def check_generated(worker: RolloutWorker, without: RolloutWorker, stops: tuple[str, ...]) -> None:
    pairs = list(zip(worker.generate(PROMPTS, 2, 1.0, 24, 0), without.generate(PROMPTS, 2, 1.0, 24, 0), strict=True))
    cut = [completion for completion, full in pairs if cut_at_stop_string(full.text, stops) != full.text]
    assert len(cut) > len(pairs) // 4, "the stop strings occur"
    assert all(completion.finished for completion in cut)
    for completion, full in pairs:
        assert completion.text == cut_at_stop_string(full.text, stops)
        assert completion.token_ids == full.token_ids[: len(completion.token_ids)]
        if completion.text == full.text:
            assert completion == full


def test_generated_answers_are_those_without_stop_strings_cut(tiny_model: Path) -> None:
    stops = frequent_texts(tiny_model)
    check_generated(make_worker(tiny_model, stops), make_worker(tiny_model, ()), stops)


def test_rollouts_are_judged_before_the_stop_string(tiny_model: Path) -> None:
    stops = frequent_texts(tiny_model)
    stopped, free = make_worker(tiny_model, stops).run_batch(PROMPTS), make_worker(tiny_model, ()).run_batch(PROMPTS)
    assert stopped.stats.sampled == len(PROMPTS)
    assert stopped.stats.tokens_generated < free.stats.tokens_generated
    table = TokenBytes(load_tokenizer(ModelConfig(path=str(tiny_model))))
    for group in stopped.groups:
        answer_before = table.text(group.context_ids[group.prompt_length :])
        assert cut_at_stop_string(answer_before, stops) == answer_before
        assert cut_at_stop_string(group.response, stops) == group.response
        assert all(cut_at_stop_string(text, stops) == text for text in group.lookaheads)


@pytest.mark.slow
def test_vllm_ends_answers_at_stop_strings_like_transformers(tiny_model: Path) -> None:
    from actors.vllm_engine import VLLMEngine

    stops = frequent_texts(tiny_model)
    model = ModelConfig(path=str(tiny_model), dtype="float32", max_context=96)
    engine = VLLMEngine(model, ROLLOUT.model_copy(update={"engine": "vllm", "kv_cache_mib": 64}), EngineOptions())
    try:
        check_generated(make_worker(tiny_model, stops, engine), make_worker(tiny_model, ()), stops)
    finally:
        engine.close()


def test_the_tiny_tokenizer_has_tokens_of_several_letters(tmp_path: Path) -> None:
    """Otherwise a stop string could not begin inside a token above."""
    table = TokenBytes(make_tokenizer(tmp_path))
    assert any(len(table[token].decode(errors="ignore")) > 1 for token in range(3, 400))
