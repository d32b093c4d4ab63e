"""Verdict and index on cases and hand-read answers kept outside the repository; skipped without them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from detectors import English, find, languages, profile

SHARED = Path(os.environ.get("TLPO_SHARED", Path(__file__).parents[3] / "shared")) / "data"
REQUIRED = 0.95

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="shared data are not beside the checkout")


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (SHARED / name).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["lang"] in languages()]


def test_every_firm_case() -> None:
    wrong = {}
    for row in _rows("detector_cases.jsonl"):
        found = find(row["text"], profile(row["lang"], row["english"]))
        expected = row["expected"]["confusion_index"]
        if not row.get("debatable") and (found and found.index) != expected:
            wrong[row["id"]] = (expected, found)
    assert not wrong


@pytest.mark.parametrize(
    ("english", "label", "uncertain"),
    [("neutral", "english_neutral", "uncertain"), ("confusion", "english_strict", "uncertain_strict")],
)
def test_precision_recall_and_index_on_read_answers(english: English, label: str, uncertain: str) -> None:
    seen: Counter[str] = Counter()
    for row in _rows("detector_gold.jsonl"):
        if row[uncertain]:
            continue
        found = find(row["text"], profile(row["lang"], english))
        seen["found"] += found is not None
        seen["confused"] += row[label]["confused"]
        if found is not None and row[label]["confused"]:
            seen["both"] += 1
            seen["exact"] += found.index == row[label]["index"]
    assert seen["both"] >= REQUIRED * seen["found"]
    assert seen["both"] >= REQUIRED * seen["confused"]
    assert seen["exact"] >= REQUIRED * seen["both"]
