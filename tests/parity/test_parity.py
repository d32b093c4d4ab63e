"""Our functions against an independent writing of the formulas, numbers worked out by hand, and finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors
from learner.advantage import advantages
from learner.objective import tlpo_objective
from tests.parity import formulas
from tests.parity.formulas import Floats

FORMS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "tlpo": formulas.tlpo_advantage,
    "unweighted": formulas.unweighted_advantage,
    "grpo": formulas.grpo_advantage,
}


@st.composite
def groups(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, Floats]:
    """Probabilities under three policies, and rewards, of one candidate set."""
    size = draw(st.integers(2, 16))

    def probabilities() -> Floats:
        logits = np.array(draw(st.lists(st.floats(-6, 6), min_size=size, max_size=size)))
        mass = draw(st.floats(0.05, 1.0))
        return mass * np.exp(logits) / np.exp(logits).sum()

    rewards = np.array(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=size, max_size=size)))
    return probabilities(), probabilities(), probabilities(), rewards


@given(group=groups(), form=st.sampled_from(list(FORMS)))
def test_advantages_are_the_formulas(group: tuple[Floats, Floats, Floats, Floats], form: str) -> None:
    _, old, _, rewards = group
    ours = advantages(torch.tensor(old).log()[None], torch.tensor(rewards)[None], form)[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.numpy(), FORMS[form](old, rewards), atol=2e-6)


@given(
    group=groups(),
    low=st.floats(0, 0.9),
    high=st.floats(0, 2),
    beta=st.floats(0, 1),
    form=st.sampled_from(list(FORMS)),
)
@settings(max_examples=200)
def test_the_objective_is_the_formula(
    group: tuple[Floats, Floats, Floats, Floats], low: float, high: float, beta: float, form: str
) -> None:
    new, old, ref, rewards = group
    advantage = FORMS[form](old, rewards)
    logs = [torch.tensor(values).log()[None] for values in (new, old, ref)]
    ours = tlpo_objective(logs[0], logs[1], logs[2], torch.tensor(advantage)[None], low, high, beta)
    wanted = formulas.objective(new, old, ref, advantage, low, high, beta)
    assert float(ours.per_group_B[0]) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_a_group_worked_out_by_hand() -> None:
    # π_old = .5 .3 .2, R = -1 1 1.  μ = (-.5 + .3 + .2) / 1 = 0.  w = -.5 .3 .2, Z = 1: A = -.5 .3 .2.
    old, rewards = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64), torch.tensor([[-1.0, 1.0, 1.0]])
    ours = advantages(old.log(), rewards, "tlpo")
    assert ours[0].tolist() == pytest.approx([-0.5, 0.3, 0.2])
    # π_θ = .25 .45 .3: ratios .5 1.5 1.5, ε = .2.
    #   i = 1: A < 0, min(.5 · -.5, .8 · -.5) = min(-.25, -.4) = -.4: clipped below
    #   i = 2: A > 0, min(1.5 · .3, 1.2 · .3) = .36: clipped above;  i = 3: min(1.5 · .2, 1.2 · .2) = .24
    # π_ref = π_old, KL_i = 1/ratio + ln ratio - 1:
    #   2 - ln 2 - 1 = .306853, 2/3 + ln 1.5 - 1 = .072132 twice;  β = .1
    # mean = (-.4 + .36 + .24 - .1 · (.306853 + 2 · .072132)) / 3 = (.2 - .0451117) / 3
    new = torch.tensor([[0.25, 0.45, 0.3]], dtype=torch.float64)
    found = tlpo_objective(new.log(), old.log(), old.log(), ours.double(), 0.2, 0.2, 0.1)
    assert float(found.per_group_B[0]) == pytest.approx((0.2 - 0.0451117) / 3, abs=1e-7)
    assert found.surrogate_BK[0].tolist() == pytest.approx([-0.4, 0.36, 0.24])
    assert found.clipped_BK.all()


@given(group=groups(), beta=st.sampled_from([0.0, 0.04, 0.5]))
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_finite_differences(group: tuple[Floats, Floats, Floats, Floats], beta: float) -> None:
    """By logits, through a softmax, where the ratio is not just at a corner of the clip."""
    new, old, ref, rewards = group
    advantage = torch.tensor(formulas.tlpo_advantage(old, rewards))[None]
    rest = np.log(max(1e-3, 1 - new.sum()))  # the other tokens, as one
    start = torch.tensor([*np.log(new), rest], dtype=torch.float64)

    def value(logits: torch.Tensor) -> torch.Tensor:
        logp = logits.log_softmax(0)[:-1][None]
        olds, refs = torch.tensor(old).log()[None], torch.tensor(ref).log()[None]
        return tlpo_objective(logp, olds, refs, advantage, 0.2, 0.2, beta).per_group_B[0]

    ratios = (start.log_softmax(0)[:-1].exp() / torch.tensor(old)).numpy()
    if np.min(np.abs(np.concatenate([ratios - 0.8, ratios - 1.2]))) < 1e-3:
        return
    logits = start.clone().requires_grad_()
    value(logits).backward()  # type: ignore[no-untyped-call]
    step = 1e-6
    for index in range(len(start)):
        shifted = [start.clone(), start.clone()]
        shifted[0][index] += step
        shifted[1][index] -= step
        slope = float(value(shifted[0]) - value(shifted[1])) / (2 * step)
        assert float(logits.grad[index]) == pytest.approx(slope, abs=2e-5, rel=1e-4)  # type: ignore[index]


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=12))
def test_pass_rates_are_equations_8_and_9(counts: list[tuple[int, int]]) -> None:
    answers = [
        " ".join(["слово"] * min(confused, words) + ["낱말"] * (words - min(confused, words)))
        for words, confused in counts
    ]
    rates = detectors.pass_rates(answers, detectors.profile("ko"))
    confused = [min(one, words) for words, one in counts]
    assert rates.rpr_of_all == pytest.approx(formulas.response_pass_rate(confused))
    assert rates.wpr == pytest.approx(formulas.word_pass_rate([words for words, _ in counts], confused))
