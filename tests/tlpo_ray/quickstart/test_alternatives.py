"""The toy world that also asks for foreign names: its questions, what is right, and the wide world as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import detectors
from tlpo_ray.errors import ConfigError
from tlpo_ray.experiment.measure import _rates
from tlpo_ray.experiment.plan import load_plan
from tlpo_ray.experiment.trial import WORLDS
from tlpo_ray.quickstart.alternatives import FOREIGN, alternatives_world
from tlpo_ray.quickstart.answers import answer_rows
from tlpo_ray.quickstart.scoring import Scorer
from tlpo_ray.quickstart.toy_cache import _fingerprint
from tlpo_ray.quickstart.toy_model import ToyRecipe, answer_languages
from tlpo_ray.quickstart.world import CURRENCIES, LANGUAGES, Question, wide_world

WANTED = [question for question in alternatives_world().questions if question.group == "wanted"]


def test_the_world_is_the_wide_one_and_questions_for_foreign_names() -> None:
    wide, world = wide_world(), alternatives_world()
    assert world.questions[: len(wide.questions)] == wide.questions and world.facts == wide.facts
    assert len(WANTED) == len(world.questions) - len(wide.questions) == len(LANGUAGES) * len(CURRENCIES)
    assert len({question.id for question in world.questions}) == len({q.text for q in world.questions}) == 640
    counts = Counter((question.language, question.name_language) for question in WANTED)
    assert set(counts) == {(language, foreign) for language in LANGUAGES for foreign in FOREIGN}
    assert set(counts.values()) <= {10, 11}


def test_the_model_learns_the_foreign_name_and_never_a_wrong_one() -> None:
    for question in WANTED:
        assert answer_languages(question) == (question.name_language,) and not question.confusable
        assert question.fact.names[question.name_language] in question.clean_answer
        assert detectors.find(question.text, detectors.language(question.language)) is None, question


@pytest.mark.parametrize("question", WANTED[::9], ids=lambda question: question.id)
def test_right_is_the_name_in_the_language_that_was_asked_for(question: Question) -> None:
    scorer = Scorer(alternatives_world())
    assert scorer.answer(question, question.clean_answer).right
    assert scorer.answer(question, f"{question.answer(question.language)} {question.clean_answer}").right, "both"
    for other in {*FOREIGN, question.language} - {question.name_language}:
        assert not scorer.answer(question, question.answer(other)).right
    assert not scorer.answer(question, "").right


def test_wanted_is_a_metric_of_its_own_and_changes_no_other() -> None:
    def rates(questions: list[Question], texts: list[str]) -> dict[str, float]:
        scorer = Scorer(alternatives_world())
        return _rates(
            questions, [scorer.answer(question, text) for question, text in zip(questions, texts, strict=True)]
        )

    plain = list(wide_world().questions)
    answers = [question.answer("uk") if question.confusable and number % 3 == 0 else question.clean_answer
               for number, question in enumerate(plain)]  # fmt: skip
    before = rates(plain, answers)
    assert "wanted" not in before and 0 < before["rpr"] < 1
    kept = [question.clean_answer if number % 4 else "…" for number, question in enumerate(WANTED)]
    after = rates([*plain, *WANTED], [*answers, *kept])
    assert after == before | {"wanted": 0.75}


def test_wanted_text_is_not_marked_as_confusion() -> None:
    asked = next(question for question in wide_world().questions if question.group == "asked")
    questions, answers = [asked, WANTED[0]], [asked.answer("uk"), WANTED[0].clean_answer]
    rows = list(answer_rows("before", questions, answers, wanted={WANTED[0].id}))
    assert rows[0]["spans"] and rows[1]["spans"] == [] and rows[1]["answer"] == WANTED[0].clean_answer
    assert list(answer_rows("before", questions, answers))[1]["spans"]


def test_worlds_have_toy_models_of_their_own() -> None:
    assert (WORLDS["wide"], WORLDS["alternatives"]) == (wide_world, alternatives_world)
    assert _fingerprint(0, ToyRecipe(), wide_world) != _fingerprint(0, ToyRecipe(), alternatives_world)


def test_trials_in_the_wide_world_are_those_that_have_been_finished() -> None:
    (trial, *_) = load_plan("comparison").trials()
    assert trial.world == "wide" and "world" not in trial._key_parts(), "every finished trial would be run again"
    other = replace(trial, world="alternatives")
    assert other.key != trial.key and not other.has_key(trial.key)
    assert all(trial.world == "alternatives" for trial in load_plan("comparison", ["world=alternatives"]).trials())


def test_a_toy_world_beside_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="alternatives is a toy world, but the plan has a target"):
        load_plan("paper", ["world=alternatives"])


def test_smoothie_is_a_method_of_plans() -> None:
    plan = load_plan("comparison", ["variants=[{name: smoothie, method: smoothie}]", "analyses=[]"])
    (trial, *_) = plan.trials()
    assert trial.method == "smoothie" and trial.key
