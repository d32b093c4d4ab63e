from __future__ import annotations

import pytest

from tlpo_ray.quickstart.scoring import AnswerScore, Scorer, summary
from tlpo_ray.quickstart.world import LANGUAGES, WRONG_LANGUAGES, Question, World, toy_world, wide_world


def question_of(world: World, id: str) -> Question:
    (question,) = (question for question in world.questions if question.id == id)
    return question


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(toy_world())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_clean_answer_is_right(scorer: Scorer, language: str) -> None:
    for question in toy_world().questions:
        if question.language == language:
            score = scorer.answer(question, question.clean_answer)
            assert score.clean and score.right_any_language and score.right and score.confused_words == 0, question


@pytest.mark.parametrize("wrong", WRONG_LANGUAGES)
def test_the_right_name_in_a_wrong_language_is_confused_but_known(scorer: Scorer, wrong: str) -> None:
    for question in toy_world().questions:
        score = scorer.answer(question, question.answer(wrong))
        assert not score.clean and score.right_any_language and not score.right, question
        assert 0 < score.confused_words <= score.words


def test_another_currency_is_wrong(scorer: Scorer) -> None:
    world = toy_world()
    japan, korea = question_of(world, "ko-JP-0"), question_of(world, "ko-KR-0")
    wrong = japan.template.replace("{name}", korea.fact.names["ko"])
    score = scorer.answer(japan, wrong)
    assert score.clean and not score.right_any_language and not score.right


def test_naming_two_currencies_is_wrong(scorer: Scorer) -> None:
    world = toy_world()
    japan, korea = question_of(world, "zh-JP-0"), question_of(world, "zh-KR-0")
    score = scorer.answer(japan, japan.clean_answer + korea.clean_answer)
    assert score.clean and not score.right_any_language


def test_half_a_name_is_wrong(scorer: Scorer) -> None:
    question = question_of(toy_world(), "ja-PL-0")
    assert not scorer.answer(question, question.clean_answer[:-5]).right_any_language


def test_the_right_name_with_a_confused_word_is_not_right(scorer: Scorer) -> None:
    question = question_of(toy_world(), "ko-JP-0")
    score = scorer.answer(question, f"{question.clean_answer} так")
    assert score.right_any_language and not score.clean and not score.right


def test_summary_counts_rates_and_means() -> None:
    def answer(clean: bool, known: bool, right: bool, words: int, confused: int, characters: int) -> AnswerScore:
        return AnswerScore(
            clean=clean, right_any_language=known, right=right, words=words, confused_words=confused,
            characters=characters,
        )  # fmt: skip

    score = summary([
        answer(True, True, True, 4, 0, 10),
        answer(True, False, False, 4, 0, 20),
        answer(False, True, False, 2, 1, 60),
        answer(False, True, False, 10, 3, 30),
    ])  # fmt: skip
    assert (score.answers, score.rpr, score.accuracy_any_language, score.accuracy) == (4, 0.5, 0.75, 0.25)
    assert score.wpr == pytest.approx(1 - 4 / 20)
    assert (score.length, score.clean_length) == (30, 15)


def test_in_the_wide_world_clean_answers_are_right_and_other_values_wrong() -> None:
    world = wide_world()
    wide = Scorer(world)
    for question in world.questions:
        score = wide.answer(question, question.clean_answer)
        assert score.clean and score.right, question
    japan, korea = question_of(world, "tongue-en-JP-0"), question_of(world, "tongue-en-KR-0")
    assert not wide.answer(japan, japan.template.replace("{name}", korea.fact.names["en"])).right_any_language
