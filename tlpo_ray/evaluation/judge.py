"""Rates of kept answers, by language and task, under either English setting; no model is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import detectors
from tlpo_ray.config.run import English
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.evaluation.suites import SUITES, Item

TOTAL = "all"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An item with one answer: everything that is needed to judge it, now or later."""

    item: Item
    sample: int
    """Number of this answer among those to the same item, from 0."""
    answer: str
    finished: bool = True
    """Whether the model ended it; False when it ran out of room."""
    tokens: int | None = None
    """Length of the answer; None where it is not known."""

    def as_json(self) -> Row:
        """One line of `answers.jsonl`; `answered_of` reads it back."""
        return {name: value for name, value in asdict(self.item).items() if value != ""} | {
            "sample": self.sample, "answer": self.answer, "finished": self.finished, "tokens": self.tokens,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A set of answers in one language, judged."""

    language: str
    task: str
    rates: detectors.Rates
    right: int | None
    """Answers that agree with their reference; None where the suite has none."""

    @property
    def accuracy(self) -> float | None:
        """Right answers / answers."""
        return None if self.right is None or not self.rates.answers else self.right / self.rates.answers

    def __add__(self, other: Judgement) -> Judgement:
        right = None if self.right is None or other.right is None else self.right + other.right
        language = self.language if self.language == other.language else TOTAL
        return Judgement(language=language, task=TOTAL, rates=self.rates + other.rates, right=right)

    def as_json(self) -> Row:
        """Rates, counts and accuracy."""
        return {"language": self.language, "task": self.task, "accuracy": self.accuracy} | self.rates.as_json()


class Judge:
    """Judges answers in their item's language."""

    def __init__(self, english: English) -> None:
        self._english: English = english
        self._profiles: dict[str, detectors.Profile] = {}

    def profile(self, language: str) -> detectors.Profile:
        """The detector of a language.

        Raises:
            UnknownLanguageError: there is none.
        """
        if language not in self._profiles:
            self._profiles[language] = detectors.profile(language, self._english)
        return self._profiles[language]

    def row(self, one: Answered) -> Row:
        """The line of `answers.jsonl` with the verdict."""
        profile = self.profile(one.item.language)
        found, count = detectors.find(one.answer, profile), detectors.count(one.answer, profile)
        return one.as_json() | {
            "status": count.status, "words": count.words, "confused_words": count.confused_words,
            "first_confusion": None if found is None else [found.index, found.end],
        }  # fmt: skip

    def judged(self, answers: Sequence[Answered]) -> list[Judgement]:
        """By language and task, in the order they come."""
        groups: dict[tuple[str, str], list[Answered]] = {}
        for one in answers:
            groups.setdefault((one.item.language, one.item.task), []).append(one)
        return [self._judgement(language, task, found) for (language, task), found in groups.items()]

    def _judgement(self, language: str, task: str, answers: Sequence[Answered]) -> Judgement:
        rates = detectors.pass_rates([one.answer for one in answers], self.profile(language))
        right = _right(answers)
        return Judgement(language=language, task=task, rates=rates, right=right)


def total(judgements: Sequence[Judgement]) -> Judgement:
    """Of all answers together; there must be some."""
    first, *others = judgements
    for one in others:
        first += one
    return replace(first, task=TOTAL)


def _right(answers: Sequence[Answered]) -> int | None:
    """How many answers to one suite are right; None where that cannot be told of them all."""
    suite = SUITES.get(answers[0].item.suite)
    if suite is None or suite.correct is None or suite.missing() or not all(one.item.reference for one in answers):
        return None
    return sum(suite.correct(one.answer, one.item.reference) for one in answers)


def read_answers(path: Path, language: str | None) -> list[Answered]:
    """Kept answers: an `answers.jsonl`, or the folder that holds one.

    Args:
        language: of lines that name none.

    Raises:
        UserError: it is not there, or a line is no answer.
    """
    file = path / "answers.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--answers {path}: no kept answers there ({first_line(error)})") from error
    answers = [_kept(f"{file} line {number}", line, language) for number, line in enumerate(lines, 1) if line.strip()]
    if not answers:
        raise UserError(f"--answers {path}: {file.name} holds no answer")
    return answers


def _kept(place: str, line: str, language: str | None) -> Answered:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({first_line(error)})") from error
    if not isinstance(row, Mapping) or not isinstance(row.get("answer"), str):
        raise UserError(f"{place}: expected an object with the field 'answer'")
    spoken = row.get("language") or language
    if not isinstance(spoken, str):
        raise UserError(f"{place}: no field 'language'; say it with --language")
    item = Item(
        suite=str(row.get("suite", "prompts")), task=str(row.get("task", "prompts")), source=str(row.get("source", "")),
        id=str(row.get("id", place)), language=spoken, prompt=str(row.get("prompt", "")),
        reference=str(row.get("reference", "")),
    )  # fmt: skip
    return Answered(
        item=item, sample=int(row.get("sample", 0)), answer=row["answer"], finished=bool(row.get("finished", True)),
        tokens=row.get("tokens"),
    )  # fmt: skip
