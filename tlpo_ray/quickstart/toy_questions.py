"""Questions of a toy world for the comparison of a policy before and after training."""

from __future__ import annotations

from collections.abc import Sequence

from tlpo_ray.config.detector import English
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.clean_kl import CleanAnswer
from tlpo_ray.quickstart.scoring import Scorer, ToyScore
from tlpo_ray.quickstart.world import Question, World

SAMPLES = 8
"""Answers sampled to each question before and after training, at the run's temperature."""


class ToyQuestions:
    """All questions of a world: a `QuestionSet` of `tlpo_ray.quickstart.comparison`.

    Args:
        world: The world, which also has the right answers.
    """

    samples = SAMPLES
    english: English = "neutral"

    def __init__(self, world: World) -> None:
        self._world = world
        self._scorer = Scorer(world)
        self.prompts: Sequence[Prompt] = as_prompts(world.questions)

    def score(self, answers: Sequence[str]) -> ToyScore:
        """Return the score of answers, `SAMPLES` to each question in the world's order."""
        asked = (question for question in self._world.questions for _ in range(SAMPLES))
        return self._scorer.score(zip(asked, answers, strict=True))

    def clean_answers(self, answers: Sequence[str]) -> Sequence[CleanAnswer]:
        """Return the right answer to every question, whatever the model has answered."""
        return right_answers(self._world.questions)


def as_prompts(questions: Sequence[Question]) -> list[Prompt]:
    """Return questions as numbered prompts."""
    return [
        Prompt(index=number, id=question.id, language=question.language, text=question.text)
        for number, question in enumerate(questions)
    ]


def right_answers(questions: Sequence[Question]) -> list[CleanAnswer]:
    """Return the right answer to each question, of which training is meant to change the name of the value."""
    return [
        CleanAnswer(prompt=question.text, text=question.clean_answer, name_at=question.template.index("{name}"))
        for question in questions
    ]
