"""Pass rates and accuracy of answers, per language and task, under either English setting; no model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import detectors
from detectors import LanguageDetector, SegmentedDetector
from detectors.segmented import added
from detectors.segments import PARTS, Part, part_at_start
from tlpo_ray.config.detector import English
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.evaluation.keeping import judging
from tlpo_ray.evaluation.suites import SUITES, Item
from tlpo_ray.files import read_json_lines
from tlpo_ray.flow.conversation import Conversation

ANSWERS = "answers.jsonl"
"""Name of the file with one JSON line per answer."""
PROMPTS = "prompts"
"""Suite and task of prompts that belong to no suite."""
TOTAL = "all"
"""Language and task of a judgement that covers several."""
Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAnswer:
    """One answer to one item of a suite, with everything that is needed to judge it now or later."""

    item: Item
    sample: int
    """Number of this answer among those to the same item, from 0."""
    answer: str
    finished: bool = True
    """True if the model ended the answer itself, False if it ran out of room."""
    tokens: int | None = None
    """Length of the answer in tokens; None if unknown."""
    begins_in: Part | None = None
    """Part that it begins in, if its prompt is known: thoughts, if the prompt has opened them."""

    @property
    def name(self) -> str:
        """The answer as error messages call it, e.g. "answer 0 to 'p3' of prompts in ko"."""
        return f"answer {self.sample} to {self.item.id!r} of {self.item.task} in {self.item.language}"

    def to_json(self) -> Json:
        """Return the answer as one line of `answers.jsonl`, which `read_answers` reads back."""
        return self.item.to_json() | {
            "sample": self.sample, "answer": self.answer, "finished": self.finished, "tokens": self.tokens,
            **({"begins_in": self.begins_in} if self.begins_in == "thoughts" else {}),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Rates of a set of answers in one language; `+` combines two sets."""

    language: str
    task: str
    rates: detectors.Rates
    right: int | None
    """Number of answers that agree with their reference; None if the suite has no references."""
    parts: Mapping[Part, detectors.Rates] = field(default_factory=dict)
    """Rates of each part of the answers, by the answers that have it; empty where parts are not judged apart. Their
    words add up to those of `rates`."""
    score_name: str = "accuracy"
    """Name of the share of right answers: `wanted` where foreign text was asked for."""
    rated: bool = True
    """Whether `rates` mean anything: where foreign text was asked for, they count it as confusion and are not shown."""

    @property
    def accuracy(self) -> float | None:
        """Share of answers that are right; None if that is unknown, or without answers."""
        return None if self.right is None or not self.rates.answers else self.right / self.rates.answers

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `accuracy`, for independent answers."""
        return None if self.accuracy is None else detectors.wilson_interval(self.right or 0, self.rates.answers)

    def __add__(self, other: Judgement) -> Judgement:
        known = self.right is not None and other.right is not None and self.score_name == other.score_name
        right = (self.right or 0) + (other.right or 0) if known else None
        language = self.language if self.language == other.language else TOTAL
        parts = dict(self.parts)
        for part, rates in other.parts.items():
            parts[part] = parts[part] + rates if part in parts else rates
        return replace(self, language=language, task=TOTAL, rates=self.rates + other.rates, right=right, parts=parts)

    def to_json(self) -> Json:
        """Return language, task and accuracy, followed by the rates and the counts behind them, if they are shown."""
        if not self.rated:
            return {
                "language": self.language, "task": self.task, self.score_name: self.accuracy,
                f"{self.score_name}_interval_95": self.accuracy_interval, "answers": self.rates.answers,
            }  # fmt: skip
        parts = {"parts": {part: rates.as_json() for part, rates in self.parts.items()}} if self.parts else {}
        return {"language": self.language, "task": self.task, "accuracy": self.accuracy} | self.rates.as_json() | parts


class Judge:
    """Judges each answer by the detector of its item's language.

    Args:
        english: "neutral": English is never confusion; "confusion": it always is.
        segments: How each part of an answer is judged (`detectors.build_detector`); None judges it as one text.
    """

    def __init__(self, english: English, segments: Mapping[str, str] | None = None) -> None:
        self.english: English = english
        self._segments = segments
        self._detectors: dict[str, LanguageDetector | SegmentedDetector] = {}

    def detector(self, language: str) -> LanguageDetector | SegmentedDetector:
        """Return the detector of a language; the same object every time.

        Raises:
            UnknownLanguageError: There is none.
        """
        if language not in self._detectors:  # a lookup costs more than judging a short answer
            self._detectors[language] = (
                detectors.language(language, self.english)
                if self._segments is None
                else detectors.segmented(language, self.english, self._segments)
            )
        return self._detectors[language]

    def row(self, answer: ItemAnswer) -> Json:
        """Return the line of `answers.jsonl` together with the verdict on the answer, or with whether it is right.

        Raises:
            JudgeError: The detector fails on it.
        """
        suite = SUITES.get(answer.item.suite)
        if suite is not None and not suite.rated and suite.correct is not None:
            with judging(answer.name):
                right = suite.correct(answer.answer, answer.item.reference, answer.item.language)
            return answer.to_json() | {suite.score_name: right}
        detector = self._detector_of(answer)
        with judging(answer.name):
            confusion, counts = detectors.find(answer.answer, detector), detectors.count(answer.answer, detector)
        return answer.to_json() | {
            "status": counts.status, "words": counts.words, "confused_words": counts.confused_words,
            "first_confusion": None if confusion is None else [confusion.start, confusion.end],
        }  # fmt: skip

    def _detector_of(self, answer: ItemAnswer) -> LanguageDetector | SegmentedDetector:
        """Return the detector for an answer, which may begin in its thoughts."""
        detector = self.detector(answer.item.language)
        if isinstance(detector, LanguageDetector):
            return detector
        return detector.beginning_in(answer.begins_in or part_at_start(answer.answer))

    def judge(self, answers: Sequence[ItemAnswer]) -> list[Judgement]:
        """Return one judgement per language and task, in the order in which they first appear.

        Raises:
            UnknownLanguageError: A language has no detector.
            JudgeError: A detector or a suite fails on an answer; the message names the answer.
        """
        groups: dict[tuple[str, str], list[ItemAnswer]] = {}
        for answer in answers:
            groups.setdefault((answer.item.language, answer.item.task), []).append(answer)
        return [self._judgement(language, task, group) for (language, task), group in groups.items()]

    def _judgement(self, language: str, task: str, answers: Sequence[ItemAnswer]) -> Judgement:
        counts = list[detectors.Counts]()
        parts: dict[Part, list[detectors.Counts]] = {}
        for answer in answers:
            with judging(answer.name):
                detector = self._detector_of(answer)
                if isinstance(detector, LanguageDetector):
                    counts.append(detector.count(answer.answer))
                    continue
                by_part = detector.count_parts(answer.answer)
            counts.append(added(by_part.values()))
            for part, count in by_part.items():
                parts.setdefault(part, []).append(count)
        suite = SUITES.get(answers[0].item.suite)
        judgement = Judgement(
            language=language, task=task, rates=detectors.rates_of(counts), right=_count_right(answers),
            parts={part: detectors.rates_of(parts[part]) for part in PARTS if part in parts},
        )  # fmt: skip
        return judgement if suite is None else replace(judgement, score_name=suite.score_name, rated=suite.rated)


def total(judgements: Sequence[Judgement]) -> Judgement:
    """Return one judgement of all the answers together; at least one judgement is required.

    Beside answers with rates, those to suites without are left out: no number means both.
    """
    first, *others = [judgement for judgement in judgements if judgement.rated] or judgements
    for judgement in others:
        first += judgement
    return replace(first, task=TOTAL)


def _count_right(answers: Sequence[ItemAnswer]) -> int | None:
    """Return how many answers to one suite are right; None unless all of them can be scored."""
    suite = SUITES.get(answers[0].item.suite)
    if suite is None or suite.correct is None or suite.missing():
        return None
    if not all(answer.item.reference for answer in answers):
        return None
    right = 0
    for answer in answers:
        with judging(answer.name):
            right += suite.correct(answer.answer, answer.item.reference, answer.item.language)
    return right


def read_answers(path: Path, language: str | None) -> list[ItemAnswer]:
    """Return saved answers.

    Args:
        path: An `answers.jsonl`, or the folder that holds one.
        language: Language of the lines that name none.

    Raises:
        UserError: The file does not exist, or a line of it is not an answer.
    """
    file = path / ANSWERS if path.is_dir() else path
    try:
        answers = [_read_answer(f"{file} line {number}", row, language) for number, row in read_json_lines(file)]
    except OSError as error:
        raise UserError(f"--answers {path}: no saved answers there ({first_line(error)})") from error
    if not answers:
        raise UserError(f"--answers {path}: {file.name} holds no answer")
    return answers


def _read_answer(place: str, row: Mapping[str, Any], default_language: str | None) -> ItemAnswer:
    if not isinstance(row.get("answer"), str):
        raise UserError(f"{place}: expected an object with the field 'answer'")
    language = row.get("language") or default_language
    if not isinstance(language, str):
        raise UserError(f"{place}: no field 'language'; give it with --language")
    # Those of `tlpo alternatives` answer the same prompts by several methods, whose rates are not to be mixed.
    task = " · ".join(str(row[name]) for name in ("task", "decoding") if name in row) or PROMPTS
    item = Item(
        suite=str(row.get("suite", PROMPTS)), task=task, source=str(row.get("source", "")),
        id=str(row.get("id", place)), language=detectors.code_or_name(language), prompt=str(row.get("prompt", "")),
        reference=str(row.get("reference", "")), conversation=_conversation(place, row),
    )  # fmt: skip
    return ItemAnswer(
        item=item, sample=int(row.get("sample", 0)), answer=row["answer"], finished=bool(row.get("finished", True)),
        tokens=row.get("tokens"), begins_in="thoughts" if row.get("begins_in") == "thoughts" else None,
    )  # fmt: skip


def _conversation(place: str, row: Mapping[str, Any]) -> Conversation | None:
    """Return the conversation that was answered; None if the prompt was a single text."""
    try:
        return Conversation.from_json(row) if "messages" in row else None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{place}: field 'messages' is not a conversation") from error
