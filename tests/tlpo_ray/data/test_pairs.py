"""Preference pairs: clean over confused, from one prompt's answers, the same for the same seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.data.pairs import Pair, clean_answers, preference_pairs
from tlpo_ray.flow.records import Prompt

Answers = dict[int, list[str]]


def prompts(number: int) -> list[Prompt]:
    return [Prompt(index=index, id=f"p{index}", language="ko", text=f"질문 {index}") for index in range(number)]


def is_clean(prompt: Prompt, answer: str) -> bool:
    """A stand-in for the detector: digits are confused."""
    return not any(char.isdigit() for char in answer)


answer_sets = st.dictionaries(st.integers(0, 7), st.lists(st.text("ab12", min_size=1, max_size=3), max_size=6))


@given(answer_sets, st.integers(0, 3))
def test_every_prompt_is_a_pair_or_counted(answers: Answers, seed: int) -> None:
    asked = prompts(8)
    found = preference_pairs(asked, answers, is_clean, seed)
    assert len(found.pairs) + found.all_clean + found.all_confused + found.unanswered == len(asked)
    by_id = {prompt.id: prompt for prompt in asked}
    assert len({pair.id for pair in found.pairs}) == len(found.pairs)
    for pair in found.pairs:
        prompt = by_id[pair.id]
        assert (pair.prompt, pair.language) == (prompt.text, "ko")
        assert {pair.chosen, pair.rejected} <= set(answers[prompt.index])
        assert is_clean(prompt, pair.chosen) and not is_clean(prompt, pair.rejected)
    mixed = [
        index for index, given in answers.items() if len({is_clean(asked[index], answer) for answer in given}) == 2
    ]
    assert sorted(mixed) == [int(pair.id[1:]) for pair in found.pairs]
    assert found.all_clean == sum(
        bool(given) and all(is_clean(asked[0], answer) for answer in given) for given in answers.values()
    )


@given(answer_sets, st.integers(0, 3))
def test_a_pair_depends_on_its_own_prompt_and_the_seed_alone(answers: Answers, seed: int) -> None:
    asked = prompts(8)
    together = preference_pairs(asked, answers, is_clean, seed).pairs
    alone = [pair for prompt in asked for pair in preference_pairs([prompt], answers, is_clean, seed).pairs]
    assert list(together) == alone


def test_all_answers_have_a_chance() -> None:
    asked, answers = prompts(1), {0: ["a", "b", "1", "2"]}
    drawn = {
        (pair.chosen, pair.rejected)
        for seed in range(60)
        for pair in preference_pairs(asked, answers, is_clean, seed).pairs
    }
    assert drawn == {("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")}


def test_clean_answers_need_no_confused_one() -> None:
    found = clean_answers(prompts(3), {0: ["a"], 1: ["1"]}, is_clean, 0)
    assert found.pairs == (Pair(id="p0", language="ko", prompt="질문 0", chosen="a", rejected=""),)
    assert (found.all_clean, found.all_confused, found.unanswered) == (0, 1, 1)
