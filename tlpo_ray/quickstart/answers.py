"""Answers to test questions as lines of a run's `answers.jsonl`, which `tlpo report` shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, Protocol

import detectors
from tlpo_ray.config.detector import English
from tlpo_ray.evaluation.keeping import judging

ANSWERS = "answers.jsonl"


class Asked(Protocol):
    """A question with its language."""

    @property
    def id(self) -> str: ...

    @property
    def language(self) -> str: ...

    @property
    def text(self) -> str: ...


def answer_rows(
    when: Literal["before", "after"],
    questions: Sequence[Asked],
    answers: Sequence[str],
    english: English = "neutral",
    wanted: Collection[str] = (),
) -> Iterator[dict[str, object]]:
    """Yield one row per answer, with its confused spans in code points.

    Args:
        when: Whether the answers were sampled before or after training.
        questions: Questions, e.g. those of a world.
        answers: Answers in the questions' order, the same number to each question.
        english: Meaning of English words in the answers.
        wanted: Ids of questions that ask for foreign text, whose answers have no confused spans.
    """
    samples = len(answers) // len(questions)
    for number, text in enumerate(answers):
        question = questions[number // samples]
        with judging(f"answer {number % samples} to {question.id!r} in {question.language}"):
            found = [] if question.id in wanted else confused_spans(question.language, text, english)
            spans = [list(span) for span in found]
        yield {
            "when": when, "id": question.id, "language": question.language, "prompt": question.text,
            "sample": number % samples, "answer": text, "spans": spans,
        }  # fmt: skip


def confused_spans(language: str, answer: str, english: English = "neutral") -> list[tuple[int, int]]:
    """Return (start, end) in code points of every span of an answer that is not in the language it should be in."""
    findings = detectors.spans(answer, detectors.language(language, english))
    return [(finding.start, finding.end) for finding in findings]
