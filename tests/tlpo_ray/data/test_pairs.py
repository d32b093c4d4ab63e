"""Preference pairs: clean over confused, drawn from the answers to one prompt, the same for the same seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.data.pairs import Pair, clean_answers, preference_pairs
from tlpo_ray.flow.records import Prompt

Answers = dict[int, list[str]]


def prompts(number: int) -> list[Prompt]:
    return [Prompt(index=index, id=f"p{index}", language="ko", text=f"질문 {index}") for index in range(number)]


def is_clean(prompt: Prompt, answer: str) -> bool:
    """Stand in for the detector: answers with digits are confused."""
    return not any(char.isdigit() for char in answer)


answer_sets = st.dictionaries(st.integers(0, 7), st.lists(st.text("ab12", min_size=1, max_size=3), max_size=6))


@given(answer_sets, st.integers(0, 3))
def test_every_prompt_gives_a_pair_or_is_counted(answers: Answers, seed: int) -> None:
    questions = prompts(8)
    pair_set = preference_pairs(questions, answers, is_clean, seed)
    assert len(pair_set.pairs) + pair_set.all_clean + pair_set.all_confused + pair_set.unanswered == len(questions)
    by_id = {prompt.id: prompt for prompt in questions}
    assert len({pair.id for pair in pair_set.pairs}) == len(pair_set.pairs)
    for pair in pair_set.pairs:
        prompt = by_id[pair.id]
        assert (pair.prompt, pair.language) == (prompt.text, "ko")
        assert {pair.chosen, pair.rejected} <= set(answers[prompt.index])
        assert is_clean(prompt, pair.chosen) and not is_clean(prompt, pair.rejected)
    mixed = [
        index for index, given in answers.items() if len({is_clean(questions[index], answer) for answer in given}) == 2
    ]
    assert sorted(mixed) == [int(pair.id[1:]) for pair in pair_set.pairs]
    assert pair_set.all_clean == sum(
        bool(given) and all(is_clean(questions[0], answer) for answer in given) for given in answers.values()
    )


@given(answer_sets, st.integers(0, 3))
def test_a_pair_depends_only_on_its_own_prompt_and_the_seed(answers: Answers, seed: int) -> None:
    questions = prompts(8)
    together = preference_pairs(questions, answers, is_clean, seed).pairs
    alone = [pair for prompt in questions for pair in preference_pairs([prompt], answers, is_clean, seed).pairs]
    assert list(together) == alone


def test_every_answer_can_be_drawn() -> None:
    questions, answers = prompts(1), {0: ["a", "b", "1", "2"]}
    drawn = {
        (pair.chosen, pair.rejected)
        for seed in range(60)
        for pair in preference_pairs(questions, answers, is_clean, seed).pairs
    }
    assert drawn == {("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")}


def test_clean_answers_do_not_require_a_confused_one() -> None:
    pair_set = clean_answers(prompts(3), {0: ["a"], 1: ["1"]}, is_clean, 0)
    assert pair_set.pairs == (Pair(id="p0", language="ko", prompt="질문 0", chosen="a", rejected=""),)
    assert (pair_set.all_clean, pair_set.all_confused, pair_set.unanswered) == (0, 1, 1)
