"""Detection as a library: findings per unit, totals, and nothing on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import detectors
from detectors import UnknownLanguageError
from tlpo_ray.detect import DetectRequest, LanguageTotals, detect
from tlpo_ray.detect.checker import UnitChecker
from tlpo_ray.detect.units import Unit
from tlpo_ray.errors import UserError

CLEAN, CONFUSED = "통화는 엔입니다", "통화는 єна입니다"


def write_jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_unit_is_yielded_with_its_findings_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(f"{CLEAN}\n\n{CONFUSED} и\n", encoding="utf-8")
    detection = detect(DetectRequest(files=[tmp_path / "a.txt"], language="ko"))
    units = list(detection)
    assert [found.unit.number for found in units] == [1, 3]
    assert [[finding.text for finding in found.findings] for found in units] == [[], ["єна", "и"]]
    assert {found.language for found in units} == {"ko"}
    assert (detection.total.units, detection.total.confused, detection.total.confused_share) == (2, 1, 0.5)
    assert capfd.readouterr() == ("", "")


def test_totals_are_by_language_and_grow_with_the_iteration(tmp_path: Path) -> None:
    rows = [{"text": CONFUSED, "lang": "ko"}, {"text": CLEAN, "lang": "ko"}, {"text": "通貨は円です", "lang": "ja"}]
    detection = detect(DetectRequest(files=[write_jsonl(tmp_path / "a.jsonl", rows)]))
    iterator = iter(detection)
    next(iterator)
    assert dict(detection.totals) == {"ko": LanguageTotals(units=1, confused=1)}
    list(iterator)
    assert dict(detection.totals) == {"ko": LanguageTotals(units=2, confused=1), "ja": LanguageTotals(units=1)}


def test_words_are_counted_for_pass_rates_if_requested(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": CONFUSED}, {"text": CLEAN}])
    detection = detect(DetectRequest(files=[file], language="ko", count_words=True))
    assert [found.findings for found in detection] == [(), ()]
    assert detection.total.rates is not None
    assert (detection.total.rates.answers, detection.total.rates.failed) == (2, 1)


@pytest.mark.parametrize("count_words", [False, True])
def test_whether_a_detector_counts_words_is_decided_once(count_words: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looked(type):
        times = 0

        def __instancecheck__(cls, instance: object) -> bool:
            Looked.times += 1
            return isinstance(instance, real)

    real = detectors.CountsWords
    monkeypatch.setattr(detectors, "CountsWords", Looked("CountsWords", (), {}))
    checker = UnitChecker(DetectRequest(files=[], language="ko", count_words=count_words))
    for number in range(5):
        checker.check(Unit(source="a", number=number, line=number, is_record=False, text=CONFUSED))
    list(checker.limitations())
    assert Looked.times == 1 and checker.total.confused == 5
    assert (checker.total.rates is not None) == count_words


def test_malformed_records_are_counted_or_raised(tmp_path: Path) -> None:
    rows = [{"text": CLEAN, "language": "kr"}, [1], {"text": 3, "language": "ko"}, {"text": CLEAN, "language": "ko"}]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    detection = detect(DetectRequest(files=[file], text_field="text", skip_bad=True))
    assert [found.unit.number for found in detection] == [4]
    assert sum(detection.skipped.values()) == 3
    assert {"not an object with fields", "no text in field 'text'"} <= detection.skipped.keys()
    with pytest.raises(UserError, match=r"a\.jsonl line 1: language 'kr'"):
        list(detect(DetectRequest(files=[file])))


def test_the_bytes_read_from_disk_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{CLEAN}\n" * 100_000, encoding="utf-8")
    detection = detect(DetectRequest(files=[tmp_path / "a.txt"], detector="terms", settings={"patterns": ["x"]}))
    reads: list[int] = []
    assert sum(1 for _ in detection.findings(reads.append)) == 100_000
    (source,) = detection.sources
    assert sum(reads) == source.nbytes == (tmp_path / "a.txt").stat().st_size
    assert len(reads) > 2


def test_a_wrong_request_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownLanguageError):
        detect(DetectRequest(files=[tmp_path / "missing.txt"], language="xx"))
    with pytest.raises(UserError, match=r"missing\.txt: no such file"):
        detect(DetectRequest(files=[tmp_path / "missing.txt"], language="ko"))


THINKING = [
    {"answer": "<think>I think so, привет.</think>답은 서울입니다."},
    {"answer": "I am still in my thoughts.</think>답은 Сеул"},
    {"answer": "<think>생각을 끝내지 못하고"},
    {"answer": '서울 <tool_call>{"city": "\\u0421\\u0435\\u0443\\u043b", "n": "부산"'},
    {"answer": "<think>I know.</think>답은 서울입니다."},
]
"""The third and the fourth answer end inside a part."""


def test_each_part_of_a_text_is_judged_in_its_own_language_at_its_place_in_the_text(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", THINKING)
    detection = detect(DetectRequest(files=[file], language="ko", segments={"thoughts": "English"}))
    found = [
        [(each.unit.text[span.start : span.end], part) for span, part in zip(each.findings, each.parts, strict=True)]
        for each in detection
    ]
    assert found == [
        [("привет", "thoughts")],
        [("Сеул", "answer")],
        [("생각을", "thoughts"), ("끝내지", "thoughts"), ("못하고", "thoughts")],
        [("\\u0421\\u0435\\u0443\\u043b", "tool_calls")],
        [],
    ]
    assert detection.total.confused == 4 and detection.limitations == ()


def test_the_rates_of_the_parts_add_up(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [row | {"lang": "ko"} for row in THINKING])
    detection = detect(
        DetectRequest(files=[file], count_words=True, segments={"thoughts": "en", "tool_calls": "exempt"})
    )
    list(detection)
    total = detection.total
    assert total.rates is not None and list(total.parts) == ["thoughts", "answer"]
    assert (total.units, total.confused, total.rates.answers, total.rates.failed) == (5, 3, 5, 3)
    assert sum(rates.words for rates in total.parts.values()) == total.rates.words
    assert {part: rates.failed for part, rates in total.parts.items()} == {"thoughts": 2, "answer": 1}


def test_a_detector_that_counts_no_words_still_finds_in_every_part(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "<think>xx</think>x"}, {"text": "<think>x</think>y"}])
    request = DetectRequest(
        files=[file], detector="terms", settings={"patterns": ["x"]}, count_words=True, segments={"thoughts": "exempt"}
    )
    detection = detect(request)
    assert [[span.start for span in found.findings] for found in detection] == [[17], []]
    assert detection.total.confused == 1


@pytest.mark.parametrize("segments", [{"thinking": "en"}, {"thoughts": "klingon"}])
@pytest.mark.parametrize("language", ["ko", None])
def test_a_wrong_part_is_refused_before_anything_is_read(
    tmp_path: Path, segments: dict[str, str], language: str | None
) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": CLEAN, "lang": "ko"}])
    with pytest.raises(detectors.DetectorError, match=r"thinking|klingon"):
        detect(DetectRequest(files=[file], language=language, segments=segments, skip_bad=True))


def test_lines_of_plain_text_that_end_inside_a_part_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("<think>I think\nso.</think>서울\n<think>I</think>서울\n", encoding="utf-8")
    detection = detect(DetectRequest(files=[tmp_path / "a.txt"], language="ko", segments={"thoughts": "en"}))
    assert [len(found.findings) for found in detection] == [0, 0, 0]
    (note,) = detection.limitations
    assert note.startswith("lines that end inside thoughts or a call: 1;")
