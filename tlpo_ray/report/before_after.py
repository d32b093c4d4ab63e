"""Answers before and after training: which words were confused in them, and pairs to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tlpo_ray.report.excerpt import in_turn, marked_parts

Json = dict[str, Any]


def pairs(rows: Sequence[Json]) -> list[Json]:
    """Questions with an answer before and one after of which one was confused: the first such pair of each question."""
    by_question: dict[tuple[str, int], dict[str, Json]] = {}
    for row in rows:
        by_question.setdefault((row["id"], row["sample"]), {})[row["when"]] = row
    both = [found for found in by_question.values() if {"before", "after"} <= found.keys()]
    first: dict[str, dict[str, Json]] = {}
    for found in both:
        if found["before"]["spans"] or found["after"]["spans"]:
            first.setdefault(found["before"]["id"], found)
    return [
        {
            "language": found["before"]["language"],
            "prompt": found["before"]["prompt"],
            "before": marked_parts(found["before"]["answer"], found["before"]["spans"]),
            "after": marked_parts(found["after"]["answer"], found["after"]["spans"]),
        }
        for found in in_turn(first.values(), lambda found: str(found["before"]["language"]))
    ]


def counted(rows: Sequence[Json]) -> Json | None:
    """How many answers there are and how many of them are confused, before and after; None unless there are both."""
    total, confused = Counter[str](), Counter[str]()
    for row in rows:
        total[row["when"]] += 1
        confused[row["when"]] += bool(row["spans"])
    if not {"before", "after"} <= total.keys():
        return None
    return {when: {"answers": total[when], "confused": confused[when]} for when in ("before", "after")}


def words(rows: Sequence[Json]) -> list[Json]:
    """Confused words of the answers: language asked in, word, times before and after; the most frequent first."""
    times: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        for start, end in row["spans"]:
            word = row["answer"][start:end]
            times.setdefault((row["language"], word), Counter())[row["when"]] += 1
    found = [
        {"language": language, "word": word, "before": count["before"], "after": count["after"]}
        for (language, word), count in times.items()
    ]
    return sorted(found, key=lambda one: (-max(one["before"], one["after"]), one["language"], one["word"]))
