"""What the manual shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import detectors
from detectors import Detector, SettingError, Stream, UnknownDetectorError, build_detector

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def doubled() -> Detector:
    page = (DOCS / "write-a-detector.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    made: Detector = names["DoubledWords"]("en", "neutral")
    return made


def test_the_example_is_a_detector_and_keeps_the_laws(doubled: Detector) -> None:
    assert isinstance(doubled, Detector)
    text = "Paris in the the spring, spring time"
    whole = doubled.find(text)
    assert whole is not None
    assert (whole.index, whole.text) == (text.index("the spring"), "the")
    assert doubled.find(text[: whole.index]) is None
    assert doubled.find("in the the", final=False) is None
    for k in range(whole.index + 1):
        part = doubled.find(text[k:], prefix=text[:k])
        assert part is not None
        assert part.index + k == whole.index
    stream = Stream(doubled)
    hits = [stream.feed(char) for char in text]
    assert hits[whole.end - 1] is None and hits[whole.end] == whole
    assert stream.copy().close() == whole


def test_the_example_has_twenty_lines() -> None:
    page = (DOCS / "write-a-detector.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20


def test_the_options_page_names_every_option() -> None:
    page = (DOCS / "detectors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(detectors.Options.__dataclass_fields__) <= named
    assert all(re.search(rf"\b{code}\b", page) for code in detectors.languages())


def test_all_errors_of_any_detector() -> None:
    at = detectors.TermsDetector(terms=["asap", "foo"])
    found = detectors.spans("Do foo asap, not food.\nASAP", at)
    assert [(error.index, error.text) for error in found] == [(3, "foo"), (7, "asap"), (23, "ASAP")]
    assert detectors.spans("통화는 єна, ещё", detectors.profile("ko"))[1].text == "ещё"


def test_detectors_are_found_by_name() -> None:
    assert {"language", "terms"} <= set(detectors.detector_names())
    assert build_detector("language", "ko") is detectors.profile("ko")
    found = build_detector("terms", "ko", settings={"terms": ["금지"]}).find("이것은 금지 입니다")
    assert found is not None
    assert (found.index, found.text, found.script) == (4, "금지", "term")


@pytest.mark.parametrize(
    ("name", "settings", "error", "said"),
    [
        ("nothing", {}, UnknownDetectorError, "there are: language, terms"),
        ("terms", {}, SettingError, "nothing is forbidden"),
        ("terms", {"patterns": ["("]}, SettingError, "no regular expression"),
        ("terms", {"patterns": ["x*"]}, SettingError, "matches the empty text"),
        ("terms", {"file": "/no/such/file"}, SettingError, "cannot read"),
        ("terms", {"terms": "asap"}, SettingError, "expected a list of texts"),
        ("terms", {"colour": 1}, SettingError, "'colour'; its settings: terms, patterns, file, ignore_case"),
        ("language", {"colour": 1}, SettingError, "colour"),
    ],
)
def test_a_wrong_detector_is_refused_in_one_line(
    name: str, settings: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as told:
        build_detector(name, "ko", settings=settings)
    assert "\n" not in str(told.value)


def test_terms_come_from_a_file_and_respect_case(tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_text("# jargon\nASAP\nlow-hanging fruit\n", encoding="utf-8")
    at = detectors.TermsDetector(file=str(file))
    assert at.find("do it asap.") is not None
    assert at.find("asapling") is None
    assert detectors.TermsDetector(file=str(file), ignore_case=False).find("do it asap.") is None
    assert detectors.TermsDetector(patterns=[r"v\d+"]).find("see v12") is not None
    assert at.version != detectors.TermsDetector(terms=["x"]).version
