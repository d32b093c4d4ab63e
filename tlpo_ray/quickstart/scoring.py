"""What answers in the toy world are worth: clean or confused, and right or wrong whatever the language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import detectors
from tlpo_ray.quickstart.world import Question, Topic, World


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScore:
    """One answer to one question."""

    clean: bool
    """No character of another language."""
    right_anywhere: bool
    """Names the right value and no other, in whatever language."""
    right: bool
    """Names the right value and no other, in the question's language, and is clean."""
    words: int
    confused_words: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Many answers."""

    answers: int
    rpr: float
    """Response pass rate: clean answers / answers (Eq. 8)."""
    wpr: float
    """Word pass rate: words without confusion / words (Eq. 9)."""
    accuracy_anywhere: float
    """Share of answers with the right value in whatever language: what the model knows."""
    accuracy: float
    """Share of clean answers with the right value in the question's language: what a user gets."""
    length: float
    """Mean characters of an answer."""
    clean_length: float
    """Mean characters of a clean answer; 0 if there is none."""


class Scorer:
    """Scores answers by the names of all values of its topic in all languages of the world."""

    def __init__(self, world: World) -> None:
        self._names: dict[Topic, set[tuple[str, str, str]]] = {}
        for fact in world.facts:
            names = ((fact.value, language, name) for language, name in fact.names.items())
            self._names.setdefault(fact.topic, set()).update(names)

    def answer(self, question: Question, text: str) -> AnswerScore:
        """Score one answer."""
        profile = detectors.profile(question.language)
        clean = detectors.find(text, profile) is None
        count = detectors.count(text, profile)
        named = {(value, language) for value, language, name in self._names[question.fact.topic] if name in text}
        right_anywhere = {value for value, _ in named} == {question.fact.value}
        return AnswerScore(
            clean=clean,
            right_anywhere=right_anywhere,
            right=right_anywhere and clean and (question.fact.value, question.language) in named,
            words=count.words,
            confused_words=count.confused_words,
            characters=len(text),
        )

    def score(self, answers: Iterable[tuple[Question, str]]) -> Score:
        """Score answers to many questions; there must be one at least."""
        return summary([self.answer(question, text) for question, text in answers])


def summary(scores: Sequence[AnswerScore]) -> Score:
    """The rates and means over at least one answer."""
    clean = [score for score in scores if score.clean]
    words = sum(score.words for score in scores)
    return Score(
        answers=len(scores),
        rpr=len(clean) / len(scores),
        wpr=1 - sum(score.confused_words for score in scores) / words if words else 1.0,
        accuracy_anywhere=sum(score.right_anywhere for score in scores) / len(scores),
        accuracy=sum(score.right for score in scores) / len(scores),
        length=sum(score.characters for score in scores) / len(scores),
        clean_length=sum(score.characters for score in clean) / len(clean) if clean else 0.0,
    )
