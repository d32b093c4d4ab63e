"""Verdict and index on cases, hand-read answers and real prompts from outside the repository; skipped without them."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from typing import Any

import opencc
import pytest

from detectors import Detector, English, find, language, spans
from tests.shared import DATA

REQUIRED = 0.97
LEXICAL_REQUIRED = 0.6
MOST_FLAGGED_PROMPTS = 7
"""Most flagged prompts of 541 per language; about that many quote words of other languages."""
PROMPT_FILES = ("ar_local", "en", "ja", "ko", "ru", "th", "uk", "zh_local")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not beside the checkout")


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_every_undisputed_case_has_the_right_verdict_and_index() -> None:
    wrong: dict[str, object] = {}
    lexical: Counter[bool] = Counter()
    for row in _rows("detector_cases.jsonl"):
        if row.get("debatable"):
            continue
        finding = find(row["text"], language(row["lang"], row["english"]))
        right = (finding and finding.start) == row["expected"]["confusion_index"]
        if row["tier"] == "lexical":
            lexical[right] += 1
        elif not right:
            wrong[row["id"]] = (row["expected"], finding)
    assert not wrong
    assert lexical[True] >= LEXICAL_REQUIRED * lexical.total() > 0


@pytest.mark.parametrize(
    ("english", "label", "uncertain"),
    [("neutral", "english_neutral", "uncertain"), ("confusion", "english_strict", "uncertain_strict")],
)
def test_precision_recall_and_index_on_hand_read_answers(english: English, label: str, uncertain: str) -> None:
    seen: Counter[str] = Counter()
    for row in _rows("detector_gold.jsonl"):
        if row[uncertain]:
            continue
        finding = find(row["text"], language(row["lang"], english))
        seen["found"] += finding is not None
        seen["confused"] += row[label]["confused"]
        if finding is not None and row[label]["confused"]:
            seen["both"] += 1
            seen["exact"] += finding.start == row[label]["index"]
    assert seen["both"] >= REQUIRED * seen["found"]
    assert seen["both"] >= REQUIRED * seen["confused"]
    assert seen["exact"] >= REQUIRED * seen["both"]


@pytest.mark.parametrize("name", PROMPT_FILES)
def test_real_prompts_are_flagged_only_where_they_quote_other_languages(name: str) -> None:
    detector = language(name.split("_")[0])
    flagged = read = 0
    for line in (DATA / "mif" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            prompt = json.loads(line)["prompt"]
        except ValueError:
            continue  # one line is broken as published
        read += 1
        flagged += find(prompt, detector) is not None
    assert read >= 540
    assert flagged <= MOST_FLAGGED_PROMPTS


def test_converted_sentences_are_told_apart() -> None:
    to_simplified, to_traditional = opencc.OpenCC("t2s").convert, opencc.OpenCC("s2t").convert
    pairs = [(simplified, to_traditional(simplified)) for simplified in map(to_simplified, _chinese_sentences())]
    different = [(simplified, traditional) for simplified, traditional in pairs if simplified != traditional]
    assert len(different) >= 900
    for detector, own, other in ((language("zh-Hans"), 0, 1), (language("zh-Hant"), 1, 0)):
        false = [pair[own] for pair in pairs if _is_other_writing(pair[own], detector)]
        missed = [pair[other] for pair in different if not _is_other_writing(pair[other], detector)]
        assert len(false) <= 0.01 * len(pairs), false
        assert len(missed) <= 0.01 * len(different), missed


def _chinese_sentences() -> list[str]:
    """Return 1,000 sentences of real answers."""
    sentences: dict[str, None] = {}
    for path in sorted((DATA / "lcb_completions").glob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["language"] == "zh":
                    found = re.findall(r"[^。！？\n]*[\u4e00-\u9fff]{6}[^。！？\n]*[。！？]", row["completion"])
                    sentences |= dict.fromkeys(found)
                if len(sentences) >= 1000:
                    return list(sentences)[:1000]
    return list(sentences)


def _is_other_writing(text: str, detector: Detector) -> bool:
    return any(finding.rule == "alphabet" for finding in spans(text, detector))
