"""Answers to a world's questions as lines of a run's `answers.jsonl`, which `tlpo report` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import detectors
from tlpo_ray.quickstart.world import Question

ANSWERS = "answers.jsonl"


def answer_rows(
    when: Literal["before", "after"], questions: Sequence[Question], answers: Sequence[str]
) -> Iterator[dict[str, object]]:
    """One row an answer, with its confused spans (code points).

    Args:
        answers: the same number to each question, in the questions' order.
    """
    samples = len(answers) // len(questions)
    for number, text in enumerate(answers):
        question = questions[number // samples]
        spans = detectors.spans(text, detectors.profile(question.language))
        yield {
            "when": when, "id": question.id, "language": question.language, "prompt": question.text,
            "sample": number % samples, "answer": text, "spans": [[span.index, span.end] for span in spans],
        }  # fmt: skip
