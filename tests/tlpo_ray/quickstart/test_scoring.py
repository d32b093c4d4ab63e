from __future__ import annotations

import pytest

from tlpo_ray.quickstart.scoring import AnswerScore, Scorer, summary
from tlpo_ray.quickstart.world import LANGUAGES, WRONG_LANGUAGES, toy_world, wide_world


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(toy_world())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_clean_answer_is_right(scorer: Scorer, language: str) -> None:
    for question in toy_world().questions:
        if question.language == language:
            score = scorer.answer(question, question.clean_answer)
            assert score.clean and score.right_anywhere and score.right and score.confused_words == 0, question


@pytest.mark.parametrize("wrong", WRONG_LANGUAGES)
def test_a_wrong_language_is_confused_but_known(scorer: Scorer, wrong: str) -> None:
    for question in toy_world().questions:
        score = scorer.answer(question, question.answer(wrong))
        assert not score.clean and score.right_anywhere and not score.right, question
        assert 0 < score.confused_words <= score.words


def test_another_currency_is_wrong(scorer: Scorer) -> None:
    world = toy_world()
    japan, korea = world.by_id["ko-JP-0"], world.by_id["ko-KR-0"]
    wrong = japan.template.replace("{name}", korea.fact.names["ko"])
    score = scorer.answer(japan, wrong)
    assert score.clean and not score.right_anywhere and not score.right


def test_naming_two_currencies_is_wrong(scorer: Scorer) -> None:
    world = toy_world()
    japan, korea = world.by_id["zh-JP-0"], world.by_id["zh-KR-0"]
    score = scorer.answer(japan, japan.clean_answer + korea.clean_answer)
    assert score.clean and not score.right_anywhere


def test_half_a_name_is_wrong(scorer: Scorer) -> None:
    question = toy_world().by_id["ja-PL-0"]
    assert not scorer.answer(question, question.clean_answer[:-5]).right_anywhere


def test_right_name_with_a_confused_word_is_not_right(scorer: Scorer) -> None:
    question = toy_world().by_id["ko-JP-0"]
    score = scorer.answer(question, f"{question.clean_answer} так")
    assert score.right_anywhere and not score.clean and not score.right


def test_summary_counts_rates_and_means() -> None:
    def one(clean: bool, anywhere: bool, right: bool, words: int, confused: int, characters: int) -> AnswerScore:
        return AnswerScore(
            clean=clean, right_anywhere=anywhere, right=right, words=words, confused_words=confused,
            characters=characters,
        )  # fmt: skip

    score = summary([
        one(True, True, True, 4, 0, 10),
        one(True, False, False, 4, 0, 20),
        one(False, True, False, 2, 1, 60),
        one(False, True, False, 10, 3, 30),
    ])  # fmt: skip
    assert (score.answers, score.rpr, score.accuracy_anywhere, score.accuracy) == (4, 0.5, 0.75, 0.25)
    assert score.wpr == pytest.approx(1 - 4 / 20)
    assert (score.length, score.clean_length) == (30, 15)


def test_every_right_answer_of_the_wide_world_is_right_and_every_other_value_wrong() -> None:
    world = wide_world()
    wide = Scorer(world)
    for question in world.questions:
        score = wide.answer(question, question.clean_answer)
        assert score.clean and score.right, question
    japan, korea = world.by_id["tongue-en-JP-0"], world.by_id["tongue-en-KR-0"]
    assert not wide.answer(japan, japan.template.replace("{name}", korea.fact.names["en"])).right_anywhere
