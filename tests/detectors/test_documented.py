"""The manual's examples work, and the names that it documents exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import detectors
from detectors import Detector, Stream

DOCS = Path(__file__).parents[2] / "docs"


def example_code() -> str:
    """Return the example of `docs/write-a-detector.md`."""
    page = (DOCS / "write-a-detector.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(blocks[0])


@pytest.fixture(scope="module")
def doubled_words() -> Detector:
    names: dict[str, Any] = {}
    exec(example_code(), names)
    detector: Detector = names["DoubledWords"]("en")
    return detector


def test_the_example_is_a_detector_and_obeys_the_laws(doubled_words: Detector) -> None:
    assert isinstance(doubled_words, Detector)
    text = "Paris in the the spring, spring time"
    complete = doubled_words.find(text)
    assert complete is not None
    assert (complete.start, complete.text, complete.kind) == (text.index("the spring"), "the", "doubled word")
    assert doubled_words.find(text[: complete.start]) is None
    assert doubled_words.find("in the the", final=False) is None
    for k in range(complete.start + 1):
        part = doubled_words.find(text[k:], prefix=text[:k])
        assert part is not None
        assert part.start + k == complete.start
    stream = Stream(doubled_words)
    results = [stream.feed(char) for char in text]
    assert results[complete.end - 1] is None and results[complete.end] == complete
    assert stream.copy().close() == complete


def test_the_example_has_at_most_twenty_lines() -> None:
    assert sum(bool(line.strip()) for line in example_code().splitlines()) <= 20


def test_the_page_names_every_option_and_language() -> None:
    page = (DOCS / "detectors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(detectors.Options.__dataclass_fields__) <= named
    assert all(re.search(rf"\b{code}\b", page) for code in detectors.languages())


def test_the_public_names_are_sorted_and_exist() -> None:
    assert detectors.__all__ == sorted(detectors.__all__)
    assert all(hasattr(detectors, name) for name in detectors.__all__)


def test_the_earlier_names_still_work() -> None:
    assert detectors.Confusion is detectors.Finding
    assert detectors.Profile is detectors.LanguageDetector
    finding = detectors.Confusion(4, 7, "єна", "Cyrillic", "script")
    assert finding == detectors.find("통화는 єна입니다", detectors.profile("ko"))
    assert (finding.index, finding.script, finding.tier) == (finding.start, finding.kind, finding.rule)
