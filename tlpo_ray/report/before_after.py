"""Answers before and after training: which words were confused in them, and pairs to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlpo_ray.report.excerpt import Parts, marked_parts, round_robin

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPair:
    """One answer before and one after training to the same question, cut around their confused spans."""

    language: str
    prompt: str
    before: Parts
    after: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCount:
    """Number of answers, and how many of them are confused."""

    answers: int
    confused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCount:
    """How often a confused word occurs in answers before and after training.

    Example: ``WordCount(language="ko", word="єна", before=12, after=0)``
    """

    language: str
    """Language of the questions."""
    word: str
    before: int
    after: int


def answer_pairs(rows: Sequence[Json]) -> list[AnswerPair]:
    """Return the first pair of answers to each question in which at least one answer is confused.

    Args:
        rows: Lines of `answers.jsonl`.
    """
    by_question: dict[tuple[str, int], dict[str, Json]] = {}
    for row in rows:
        by_question.setdefault((row["id"], row["sample"]), {})[row["when"]] = row
    first: dict[str, tuple[Json, Json]] = {}
    for answers in by_question.values():
        if {"before", "after"} <= answers.keys() and any(answers[when]["spans"] for when in ("before", "after")):
            first.setdefault(answers["before"]["id"], (answers["before"], answers["after"]))
    return [
        AnswerPair(
            language=before["language"],
            prompt=before["prompt"],
            before=marked_parts(before["answer"], before["spans"]),
            after=marked_parts(after["answer"], after["spans"]),
        )
        for before, after in round_robin(first.values(), lambda pair: str(pair[0]["language"]))
    ]


def summarise(rows: Sequence[Json]) -> dict[str, AnswerCount] | None:
    """Return the number of answers by `before` and `after`; None unless there are answers of both."""
    total, confused = Counter[str](), Counter[str]()
    for row in rows:
        total[row["when"]] += 1
        confused[row["when"]] += bool(row["spans"])
    if not {"before", "after"} <= total.keys():
        return None
    return {when: AnswerCount(answers=total[when], confused=confused[when]) for when in ("before", "after")}


def confused_words(rows: Sequence[Json]) -> list[WordCount]:
    """Return the confused words of the answers, the most frequent first."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        for start, end in row["spans"]:
            word = row["answer"][start:end]
            counts.setdefault((row["language"], word), Counter())[row["when"]] += 1
    words = [
        WordCount(language=language, word=word, before=count["before"], after=count["after"])
        for (language, word), count in counts.items()
    ]
    return sorted(words, key=lambda word: (-max(word.before, word.after), word.language, word.word))
