"""Scores of answers in the toy world: clean or confused, and right or wrong in whatever language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import detectors
from tlpo_ray.evaluation.keeping import judging
from tlpo_ray.quickstart.world import Question, Topic, World


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScore:
    """Score of one answer to one question.

    Example: "일본의 통화는 японська єна입니다." names the right value in another language, and 2 of its 4 words are
    confused: ``AnswerScore(clean=False, right_any_language=True, right=False, words=4, confused_words=2,
    characters=24)``
    """

    clean: bool
    """Whether the answer has no character of another language."""
    right_any_language: bool
    """Whether it names the right value and no other, in whatever language."""
    right: bool
    """Whether it names the right value and no other, in the question's language, and is clean. Of a question that asks
    for the name in another language: whether the name is there in that one, whatever else is."""
    words: int
    confused_words: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Rates and means over many answers."""

    answers: int
    rpr: float
    """Response pass rate: clean answers / answers (Eq. 8)."""
    wpr: float
    """Word pass rate: words without confusion / words (Eq. 9)."""
    length: float
    """Mean length of an answer in characters."""
    clean_length: float
    """Mean length of a clean answer in characters; 0 if no answer is clean."""

    def to_json(self) -> dict[str, object]:
        """Return the rates and means by their names in `result.json`."""
        return {"rpr": self.rpr, "wpr": self.wpr, "length": self.length, "length_clean": self.clean_length}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyScore(Score):
    """Rates and means over many answers in a toy world."""

    accuracy_any_language: float
    """Share of answers with the right value in whatever language, i.e. what the model knows."""
    accuracy: float
    """Share of clean answers with the right value in the question's language, i.e. what a user gets."""

    def to_json(self) -> dict[str, object]:
        """Return the rates and means by their names in `result.json`."""
        known = {"accuracy": self.accuracy, "accuracy_any_language": self.accuracy_any_language}
        return Score.to_json(self) | known


class Scorer:
    """Scores answers by the names of all values of the question's topic, in all languages of a world.

    Args:
        world: Facts that the answers are compared with.
    """

    def __init__(self, world: World) -> None:
        self._names: dict[Topic, set[tuple[str, str, str]]] = {}
        for fact in world.facts:
            names = ((fact.value, language, name) for language, name in fact.names.items())
            self._names.setdefault(fact.topic, set()).update(names)

    def answer(self, question: Question, text: str) -> AnswerScore:
        """Return the score of one answer.

        Raises:
            JudgeError: The detector fails on it.
        """
        detector = detectors.language(question.language)
        with judging(f"an answer to {question.id!r} in {question.language}"):
            clean = detectors.find(text, detector) is None
            count = detectors.count(text, detector)
        named = {(value, language) for value, language, name in self._names[question.fact.topic] if name in text}
        right_any_language = {value for value, _ in named} == {question.fact.value}
        in_own_language = right_any_language and clean and (question.fact.value, question.language) in named
        wanted = question.name_language
        return AnswerScore(
            clean=clean,
            right_any_language=right_any_language,
            right=(question.fact.value, wanted) in named if wanted else in_own_language,
            words=count.words,
            confused_words=count.confused_words,
            characters=len(text),
        )

    def score(self, answers: Iterable[tuple[Question, str]]) -> ToyScore:
        """Return the score of at least one answer, each given with its question."""
        return summary([self.answer(question, text) for question, text in answers])


def summary(scores: Sequence[AnswerScore]) -> ToyScore:
    """Return the rates and means over at least one answer."""
    clean = [score for score in scores if score.clean]
    words = sum(score.words for score in scores)
    return ToyScore(
        answers=len(scores),
        rpr=len(clean) / len(scores),
        wpr=1 - sum(score.confused_words for score in scores) / words if words else 1.0,
        accuracy_any_language=sum(score.right_any_language for score in scores) / len(scores),
        accuracy=sum(score.right for score in scores) / len(scores),
        length=sum(score.characters for score in scores) / len(scores),
        clean_length=sum(score.characters for score in clean) / len(clean) if clean else 0.0,
    )
