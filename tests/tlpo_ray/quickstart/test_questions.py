from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import detectors
from tlpo_ray.quickstart.questions import LANGUAGES, open_questions

languages = st.lists(st.sampled_from(LANGUAGES), min_size=1, unique=True)


@pytest.mark.parametrize("english", ["neutral", "confusion"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_question_is_clean_in_its_language(language: str, english: detectors.English) -> None:
    detector = detectors.language(language, english)
    questions = open_questions([language], seed=0)
    found = [(text, detector.find(text)) for text in (q.text for q in (*questions.asked, *questions.held_out))]
    assert len(found) > 300
    assert [place for place in found if place[1] is not None] == []


@given(languages, st.integers(0, 1000))
def test_questions_are_unique_in_their_languages_and_held_out_ones_name_what_is_never_asked_about(
    chosen: list[str], seed: int
) -> None:
    questions = open_questions(chosen, seed)
    asked, held_out = ({q.id.split("-")[1] for q in part} for part in (questions.asked, questions.held_out))
    assert asked and held_out
    every = [*questions.asked, *questions.held_out]
    assert len({q.id for q in every}) == len({(q.language, q.text) for q in every}) == len(every)
    assert {q.language for q in questions.asked} == {q.language for q in questions.held_out} == set(chosen)
    # By case, too: the country `IT` is another thing than the language `it`.
    assert asked.isdisjoint(held_out)
    assert all(q.id.startswith(f"{q.language}-") and "{" not in q.text for q in every)


@given(languages, st.integers(0, 1000), st.integers(0, 1000))
def test_the_order_depends_on_the_seed_and_nothing_else_does(chosen: list[str], seed: int, other: int) -> None:
    questions, again, others = (open_questions(chosen, value) for value in (seed, seed, other))
    assert questions == again
    assert sorted(q.id for q in questions.asked) == sorted(q.id for q in others.asked)
    assert sorted(q.id for q in questions.held_out) == sorted(q.id for q in others.held_out)
    assert seed == other or questions != others


def test_any_stretch_of_the_questions_mixes_the_languages() -> None:
    asked = open_questions(LANGUAGES, seed=3).asked
    for start in range(0, len(asked) - 100, 100):
        assert len({q.language for q in asked[start : start + 100]}) == len(LANGUAGES)
