"""Answers to the questions of a world as lines of a run's `answers.jsonl`, which `tlpo report` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import detectors
from tlpo_ray.quickstart.world import Question

ANSWERS = "answers.jsonl"


def answer_rows(
    when: Literal["before", "after"], questions: Sequence[Question], answers: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Yield one row per answer, with its confused spans in code points.

    Args:
        when: Whether the answers were sampled before or after training.
        questions: Questions of the world.
        answers: Answers in the questions' order, the same number to each question.
    """
    samples = len(answers) // len(questions)
    for number, text in enumerate(answers):
        question = questions[number // samples]
        yield {
            "when": when, "id": question.id, "language": question.language, "prompt": question.text,
            "sample": number % samples, "answer": text,
            "spans": [list(span) for span in confused_spans(question, text)],
        }  # fmt: skip


def confused_spans(question: Question, answer: str) -> list[tuple[int, int]]:
    """Return (start, end) in code points of every span of an answer that is not in the question's language."""
    findings = detectors.spans(answer, detectors.language(question.language))
    return [(finding.start, finding.end) for finding in findings]
