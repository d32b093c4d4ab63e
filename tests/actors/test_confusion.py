"""From a sampled answer to its confusion point."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import detectors
from actors.confusion import StreamingDetector, confusion_point
from actors.token_bytes import TokenBytes
from tests.vocabularies import byte_level, sentence_piece

KINDS = {"byte-level": byte_level, "sentencepiece": sentence_piece}
TABLES = {name: TokenBytes(make()) for name, make in KINDS.items()}
CLEAN = {
    "ko": "일본의 통화는 엔입니다. 서울특별시 ",
    "ja": "日本の通貨は円です。東京は",
    "zh": "中国的货币是人民币。北京是",
    "ar": "عملة مصر هي الجنيه المصري. ",
}
FOREIGN = ("гривня", "єна", "บาท", "שקל", "रुपया", "ლარი", "դրամ")


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[int], str, str]:
    """Draw a tokenizer kind, sampled ids, their language, and the clean text before the foreign word."""
    kind, language = draw(st.sampled_from(sorted(KINDS))), draw(st.sampled_from(sorted(CLEAN)))
    text = CLEAN[language]
    before = text[: draw(st.integers(0, len(text)))]
    whole = before + draw(st.sampled_from(FOREIGN)) + draw(st.sampled_from(["", "입니다", "です", " هي", " 12 km"]))
    tokenizer = KINDS[kind]()
    if draw(st.booleans()):
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    else:  # a segmentation that no encoder would choose: single bytes from some character on
        cut = draw(st.integers(0, len(whole)))
        ids = tokenizer(whole[:cut], add_special_tokens=False)["input_ids"] + _bytewise(kind, whole[cut:])
    assume(TABLES[kind].text(ids) == whole)
    return kind, ids, language, before


def _bytewise(kind: str, text: str) -> list[int]:
    table = TABLES[kind]
    single = {table[token]: token for token in range(len(KINDS[kind]())) if len(table[token]) == 1}
    return [single[bytes([byte])] for byte in text.encode()]


@settings(max_examples=300)
@given(answers())
def test_the_confused_character_begins_in_token_c(
    answer: tuple[str, list[int], str, str],
) -> None:
    kind, ids, language, before = answer
    table = TABLES[kind]
    point = confusion_point(ids, table, detectors.language(language))
    assert point is not None
    assert point.finding.start == len(before)
    clean_bytes = len(before.encode())
    assert len(table.join(ids[: point.token])) <= clean_bytes
    assert len(table.join(ids[: point.token + 1])) > clean_bytes


@settings(max_examples=200)
@given(answers())
def test_streaming_stops_no_earlier_than_c_and_at_the_same_confusion_point(
    answer: tuple[str, list[int], str, str],
) -> None:
    kind, ids, language, _ = answer
    table, detector = TABLES[kind], detectors.language(language)
    point = confusion_point(ids, table, detector)
    assert point is not None
    streaming = StreamingDetector(table, detector)
    stopped = next((number for number, token in enumerate(ids) if streaming.stop_condition([token])), None)
    if stopped is not None:
        assert stopped >= point.token
        cut = confusion_point(ids[: stopped + 1], table, detector)
        assert cut is not None
        assert cut.token == point.token


@pytest.mark.parametrize("language", sorted(CLEAN))
def test_a_clean_answer_has_no_confusion_point(language: str) -> None:
    ids = byte_level()(CLEAN[language] + "GDP 1,234 km/h 😀", add_special_tokens=False)["input_ids"]
    assert confusion_point(ids, TABLES["byte-level"], detectors.language(language)) is None


def test_an_unfinished_character_is_not_a_confusion() -> None:
    ids = byte_level()("엔 ", add_special_tokens=False)["input_ids"] + _bytewise("byte-level", "є")[:1]
    assert confusion_point(ids, TABLES["byte-level"], detectors.language("ko")) is None
