"""Eq. 5 and 6, the two forms that the paper compares with, and forms of other packages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from learner.advantage import AdvantageForm, grpo, tlpo, unweighted
from tlpo_ray.config.plugins import ADVANTAGES, load_plugin

FORMS: dict[str, AdvantageForm] = {"tlpo": tlpo, "unweighted": unweighted, "grpo": grpo}
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


@pytest.mark.parametrize("name", FORMS)
def test_a_group_worked_out_by_hand(name: str) -> None:
    advantages = FORMS[name](row(POLICY).log(), row(REWARDS))
    assert advantages.dtype == torch.float32
    torch.testing.assert_close(advantages, row(BY_HAND[name]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_registered_under_its_name(name: str) -> None:
    assert load_plugin(ADVANTAGES, name) is FORMS[name]


groups = st.integers(2, 16).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-200, 0, width=32), min_size=n, max_size=n),
        st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n),
    )
)


@given(groups, st.data())
def test_candidates_that_are_undecided_have_no_say(group: tuple[list[float], list[float]], data: st.DataObject) -> None:
    logp, rewards = group
    decided = data.draw(st.lists(st.booleans(), min_size=len(logp), max_size=len(logp)))
    with_undecided = [reward if known else 0.0 for reward, known in zip(rewards, decided, strict=True)]
    for form in FORMS.values():
        (advantages,) = form(row(logp), row(with_undecided))
        assert not advantages[~torch.tensor(decided)].any()
        if any(decided):
            kept = [pair for pair, known in zip(zip(logp, rewards, strict=True), decided, strict=True) if known]
            (alone,) = form(*map(row, map(list, zip(*kept, strict=True))))
            torch.testing.assert_close(advantages[torch.tensor(decided)], alone, rtol=1e-5, atol=1e-7)


@given(groups)
def test_advantages_sum_to_zero_and_their_magnitudes_to_one(group: tuple[list[float], list[float]]) -> None:
    logp, rewards = group
    assume(len(set(rewards)) > 1)
    (advantages,) = tlpo(row(logp), row(rewards)).double()
    assert abs(float(advantages.sum())) < 1e-6
    assert abs(float(advantages.abs().sum()) - 1) < 1e-6
    assert bool((advantages * row(rewards)[0] >= 0).all()), "an advantage must have the sign of its reward"


@given(groups, st.floats(-30, 30))
def test_only_proportions_of_probability_matter(group: tuple[list[float], list[float]], shift: float) -> None:
    logp, rewards = group
    shifted = (np.array(logp) + shift).tolist()
    for form in FORMS.values():
        torch.testing.assert_close(
            form(row(shifted), row(rewards)), form(row(logp), row(rewards)), rtol=1e-4, atol=1e-6
        )


@given(groups, st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_and_origin_of_the_rewards_do_not_matter(
    group: tuple[list[float], list[float]], scale: float, origin: float
) -> None:
    logp, rewards = group
    moved = (np.array(rewards) * scale + origin).tolist()
    assume(0 not in moved)  # the reward of a candidate that is undecided
    for form, factor in ((tlpo, 1.0), (grpo, 1.0), (unweighted, scale)):
        torch.testing.assert_close(
            form(row(logp), row(moved)), factor * form(row(logp), row(rewards)), rtol=2e-3, atol=1e-5
        )


@given(st.lists(st.floats(-60, 0), min_size=2, max_size=16), st.sampled_from([-1.0, 1.0, 0.1, 0.0]))
def test_equal_rewards_give_no_signal(logp: list[float], reward: float) -> None:
    for form in FORMS.values():
        assert not form(row(logp), row([reward] * len(logp))).any()


def test_a_confused_token_of_vanishing_probability_still_gets_half_of_the_weight() -> None:
    torch.testing.assert_close(tlpo(row([0.0, -150.0]), row([1.0, -1.0])), row([0.5, -0.5]))


@pytest.mark.parametrize("name", FORMS)
def test_groups_of_a_batch_do_not_affect_each_other(name: str) -> None:
    logp = torch.cat([row(POLICY), row(POLICY[::-1])]).log()
    rewards = torch.cat([row(REWARDS), row([1.0] * 4)])
    both = FORMS[name](logp, rewards)
    assert torch.equal(both[:1], FORMS[name](logp[:1], rewards[:1])) and not both[1].any()
