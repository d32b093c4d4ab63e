from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.data.pairs import clean_answers, preference_pairs
from tlpo_ray.flow.records import Prompt

ANSWERS = st.dictionaries(st.integers(0, 9), st.lists(st.sampled_from(["good", "fine", "bad", "worse"]), max_size=6))


def is_clean(prompt: Prompt, answer: str) -> bool:
    return answer in ("good", "fine")


def asked(count: int = 10) -> list[Prompt]:
    return [Prompt(index=n, id=f"p{n}", language="ko", text=f"{n}?") for n in range(count)]


@given(answers=ANSWERS, seed=st.integers(0, 99))
def test_pairs_are_of_their_prompt_s_own_answers_and_every_prompt_is_counted(
    answers: dict[int, list[str]], seed: int
) -> None:
    found = preference_pairs(asked(), answers, is_clean, seed)
    assert len(found.pairs) + found.all_clean + found.all_confused + found.unanswered == 10
    for pair in found.pairs:
        own = answers[int(pair.id[1:])]
        assert pair.chosen in own and pair.rejected in own and pair.prompt == f"{pair.id[1:]}?"
        assert is_clean(asked()[0], pair.chosen) and not is_clean(asked()[0], pair.rejected)
    assert preference_pairs(asked(), answers, is_clean, seed) == found, "the same for a seed"


@given(answers=ANSWERS, seed=st.integers(0, 99))
def test_clean_answers_need_no_confused_one(answers: dict[int, list[str]], seed: int) -> None:
    found = clean_answers(asked(), answers, is_clean, seed)
    assert len(found.pairs) == sum(any(is_clean(asked()[0], one) for one in given) for given in answers.values())
    assert found.all_clean == 0 and all(pair.rejected == "" for pair in found.pairs)


def test_choice_is_spread_over_the_answers() -> None:
    answers = {number: ["good", "fine", "bad", "worse"] for number in range(10)}
    pairs = [pair for seed in range(5) for pair in preference_pairs(asked(), answers, is_clean, seed).pairs]
    assert {pair.chosen for pair in pairs} == {"good", "fine"} and {pair.rejected for pair in pairs} == {"bad", "worse"}
