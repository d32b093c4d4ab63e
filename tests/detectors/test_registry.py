"""Detectors by name, the terms detector, and what an optional method of a detector changes."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import detectors
from detectors import (
    CountsWords,
    DetectorSet,
    Finding,
    IncrementalDetector,
    SettingError,
    Stream,
    TermsDetector,
    UnknownDetectorError,
    build_detector,
    registry,
)


class FindOnly:
    """A detector with `find` alone, whose English setting is part of its version."""

    def __init__(self, language: str, english: str = "not given", *, word: str = "bad") -> None:
        self.version = f"{language}, {english}, {word}"
        self._word = word

    def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
        start = text.find(self._word)
        return None if start < 0 else Finding(start, start + len(self._word), self._word, "word", "word")


def without_english(language: str, **settings: str) -> FindOnly:
    return FindOnly(language, **settings)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install two more detectors, one per form of the factory."""
    factories = {"with-english": "FindOnly", "without-english": "without_english"}
    entry_points = {
        name: EntryPoint(name, f"{__name__}:{factory}", registry.GROUP) for name, factory in factories.items()
    }
    monkeypatch.setattr(registry, "_installed", lambda: entry_points)


def test_detectors_are_found_by_name() -> None:
    assert {"language", "terms"} <= set(detectors.detector_names())
    assert build_detector("language", "ko") is detectors.language("ko")
    finding = build_detector("terms", "ko", settings={"terms": ["금지"]}).find("이것은 금지 입니다")
    assert finding == Finding(4, 6, "금지", "term", "term")


def test_terms_of_a_file_are_its_lines(tmp_path: Path) -> None:
    """Only a line feed ends a term, not U+2028 or U+0085, and a byte order mark does not belong to the first one."""
    terms = ["금지", "첫째\u2028둘째", "셋째\x85넷째"]
    (tmp_path / "terms.txt").write_text("\ufeff" + "\r\n".join([*terms, "", "# 허용"]), encoding="utf-8")
    detector = build_detector("terms", "ko", settings={"file": str(tmp_path / "terms.txt")})
    for term in terms:
        assert detector.find(f"이것은 {term} 입니다") == Finding(4, 4 + len(term), term, "term", "term")
    assert detector.find("이것은 첫째 넷째 허용 입니다") is None


def test_only_a_factory_that_takes_english_receives_it(installed: None) -> None:
    assert build_detector("with-english", "ko", "confusion").version == "ko, confusion, bad"
    assert build_detector("without-english", "ko", "confusion").version == "ko, not given, bad"
    assert build_detector("without-english", "ko", settings={"word": "x"}).version == "ko, not given, x"
    with pytest.raises(SettingError, match="'colour'; its settings: word"):
        build_detector("with-english", "ko", settings={"colour": 1})


def test_a_detector_set_builds_each_detector_once_when_it_is_needed(installed: None) -> None:
    built = DetectorSet("with-english", "confusion", {"word": "x"})
    assert built["ko"].version == "ko, confusion, x"
    assert built["ko"] is built["ko"]
    assert built["ja"] is not built["ko"]
    unknown = DetectorSet("nothing")
    with pytest.raises(UnknownDetectorError):
        unknown["ko"]


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("nothing", {}, UnknownDetectorError, "available: language, terms"),
        ("terms", {}, SettingError, "nothing is forbidden"),
        ("terms", {"patterns": ["("]}, SettingError, "not a regular expression"),
        ("terms", {"patterns": ["x*"]}, SettingError, "matches the empty text"),
        ("terms", {"file": "/no/such/file"}, SettingError, "cannot read"),
        ("terms", {"terms": "asap"}, SettingError, "expected a list of texts"),
        ("terms", {"colour": 1}, SettingError, "'colour'; its settings: terms, patterns, file, ignore_case"),
        ("language", {"colour": 1}, SettingError, "colour"),
        ("language", {"english": "neutral"}, SettingError, "'english' is given twice"),
    ],
)
def test_a_wrong_detector_is_rejected_in_one_line(
    name: str, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        build_detector(name, "ko", settings=settings)
    assert "\n" not in str(raised.value)


def test_all_errors_are_found_by_a_detector_of_either_kind() -> None:
    terms = TermsDetector(terms=["asap", "foo"])
    assert not isinstance(terms, IncrementalDetector | CountsWords)
    findings = detectors.spans("Do foo asap, not food.\nASAP", terms)
    assert [(finding.start, finding.text) for finding in findings] == [(3, "foo"), (7, "asap"), (23, "ASAP")]
    korean = detectors.language("ko")
    assert isinstance(korean, IncrementalDetector) and isinstance(korean, CountsWords)
    assert detectors.spans("통화는 єна, ещё", korean)[1].text == "ещё"


def test_a_detector_with_find_alone_agrees_with_one_that_scans() -> None:
    class Wrapped:
        version = "1"

        def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
            return korean.find(text, prefix, final)

    korean = detectors.language("ko")
    text = "통화는 єна 그리고 ещё 입니다"
    assert detectors.spans(text, Wrapped()) == korean.spans(text)
    scanned, searched = Stream(korean, prefix="그 "), Stream(Wrapped(), prefix="그 ")
    for character in text:
        assert scanned.feed(character) == searched.feed(character)


@pytest.mark.parametrize("method", ["spans", "scan"])
def test_each_method_of_an_incremental_detector_is_used_without_the_other(method: str) -> None:
    """`detectors.spans` requires `spans` alone, `Stream` requires `scan` alone."""
    korean = detectors.language("ko")
    used: list[str] = []

    def call(*arguments: str) -> object:
        used.append(method)
        return getattr(korean, method)(*arguments)

    detector = FindOnly("ko")
    setattr(detector, method, call)
    assert not isinstance(detector, IncrementalDetector)
    text = "통화는 є"
    searched, streamed = detectors.spans(text, detector), Stream(detector).feed(text)
    assert used == [method]
    assert searched == (korean.spans(text) if method == "spans" else [])
    assert streamed == (korean.find(text) if method == "scan" else None)


def test_terms_come_from_a_file_and_can_be_case_sensitive(tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_text("# jargon\nASAP\nlow-hanging fruit\n", encoding="utf-8")
    detector = TermsDetector(file=str(file))
    assert detector.find("do it asap.") is not None
    assert detector.find("asapling") is None
    assert TermsDetector(file=str(file), ignore_case=False).find("do it asap.") is None
    assert TermsDetector(patterns=[r"v\d+"]).find("see v12") is not None
    assert detector.version != TermsDetector(terms=["x"]).version
