"""Eq. 5 and 6, and the two forms that the paper compares with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from learner.advantage import advantages

POLICY = [0.4, 0.3, 0.2, 0.1]
REWARDS = [1.0, 1.0, -1.0, 1.0]
# μ = 0.4 + 0.3 - 0.2 + 0.1 over 1.0 = 0.6; w = (0.4·0.4, 0.3·0.4, 0.2·-1.6, 0.1·0.4); Z = 0.64.
BY_HAND = {
    "tlpo": [0.25, 0.1875, -0.5, 0.0625],
    "unweighted": [0.4, 0.4, -1.6, 0.4],
    # mean R = 0.5, std = √0.75.
    "grpo": [0.5 / math.sqrt(0.75), 0.5 / math.sqrt(0.75), -1.5 / math.sqrt(0.75), 0.5 / math.sqrt(0.75)],
}


def row(values: list[float]) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


@pytest.mark.parametrize("form", BY_HAND)
def test_a_group_worked_out_by_hand(form: str) -> None:
    found = advantages(row(POLICY).log(), row(REWARDS), form)
    torch.testing.assert_close(found, row(BY_HAND[form]), rtol=1e-6, atol=1e-7)


def test_tlpo_is_the_default_form() -> None:
    assert torch.equal(advantages(row(POLICY).log(), row(REWARDS)), advantages(row(POLICY).log(), row(REWARDS), "tlpo"))


groups = st.integers(2, 16).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-200, 0, width=32), min_size=n, max_size=n),
        st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n),
    )
)


@given(groups)
def test_advantages_sum_to_zero_and_their_magnitudes_to_one(group: tuple[list[float], list[float]]) -> None:
    logp, rewards = group
    assume(len(set(rewards)) > 1)
    (found,) = advantages(row(logp), row(rewards)).double()
    assert abs(float(found.sum())) < 1e-6
    assert abs(float(found.abs().sum()) - 1) < 1e-6
    assert bool((found * row(rewards)[0] >= 0).all()), "an advantage has its reward's sign"


@given(groups, st.floats(-30, 30))
def test_only_proportions_of_probability_matter(group: tuple[list[float], list[float]], shift: float) -> None:
    logp, rewards = group
    moved = (np.array(logp) + shift).tolist()
    for form in BY_HAND:
        torch.testing.assert_close(
            advantages(row(moved), row(rewards), form), advantages(row(logp), row(rewards), form), rtol=1e-4, atol=1e-6
        )


@given(groups, st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_and_origin_of_the_rewards_do_not_matter(
    group: tuple[list[float], list[float]], scale: float, origin: float
) -> None:
    logp, rewards = group
    moved = (np.array(rewards) * scale + origin).tolist()
    for form, factor in (("tlpo", 1.0), ("grpo", 1.0), ("unweighted", scale)):
        torch.testing.assert_close(
            advantages(row(logp), row(moved), form),
            factor * advantages(row(logp), row(rewards), form),
            rtol=2e-3,
            atol=1e-5,
        )


@given(st.lists(st.floats(-60, 0), min_size=2, max_size=16), st.sampled_from([-1.0, 1.0, 0.1, 0.0]))
def test_equal_rewards_give_no_signal(logp: list[float], reward: float) -> None:
    for form in BY_HAND:
        assert not advantages(row(logp), row([reward] * len(logp)), form).any()


def test_a_confused_token_of_vanishing_probability_still_gets_half_of_the_weight() -> None:
    found = advantages(row([0.0, -150.0]), row([1.0, -1.0]))
    torch.testing.assert_close(found, row([0.5, -0.5]))


def test_groups_do_not_see_each_other() -> None:
    logp = torch.cat([row(POLICY), row(POLICY[::-1])]).log()
    rewards = torch.cat([row(REWARDS), row([1.0] * 4)])
    both = advantages(logp, rewards)
    assert torch.equal(both[:1], advantages(logp[:1], rewards[:1])) and not both[1].any()
