"""Our functions compared with the paper's formulas: worked out by hand, and in plain NumPy (`formulas.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from detectors import pass_rates, profile
from learner.advantage import AdvantageForm, grpo, tlpo, unweighted
from learner.objective import tlpo_objective
from learner.schedule import learning_rate
from tests.parity import formulas
from tlpo_ray.config.run import LearnerConfig

Formula = Callable[[Sequence[float], Sequence[float]], list[float]]
FORMS: dict[str, tuple[AdvantageForm, Formula]] = {
    "tlpo": (tlpo, formulas.tlpo_advantages),
    "unweighted": (unweighted, formulas.unweighted_advantages),
    "grpo": (grpo, formulas.grpo_advantages),
}
"""Name → our function and the paper's formula."""

# Four candidates, the third leads to confusion.
#
#   π_old                 0.40      0.30      0.20      0.10
#   R                     1         1        -1         1
#   Eq. 5   μ = (0.4 + 0.3 - 0.2 + 0.1) / 1.0 = 0.6
#   w = π_old (R - μ)     0.16      0.12     -0.32      0.04        Z = 0.64
#   Eq. 6   A = w / Z     0.25      0.1875   -0.5       0.0625
#   π_θ                   0.52      0.27      0.15      0.11
#   ratio                 1.3       0.9       0.75      1.1
#   clip to 0.8 … 1.2     1.2       0.9       0.8       1.1         the first is clipped above, the third below
#   ratio A               0.325     0.16875  -0.375     0.06875
#   clip(ratio) A         0.3       0.16875  -0.4       0.06875
#   min                   0.3       0.16875  -0.4       0.06875     mean 0.034375
#   π_ref = π_old: x      0.769231  1.111111  1.333333  0.909091
#   x - log x - 1         0.031595  0.005751  0.045651  0.004401    mean 0.0218495
#   J = 0.034375 - 0.04 · 0.0218495 = 0.03350102
FOUR = {"old": [0.4, 0.3, 0.2, 0.1], "rewards": [1.0, 1.0, -1.0, 1.0], "policy": [0.52, 0.27, 0.15, 0.11]}

# Three candidates with all the policy's mass between them, two of them confused.
#
#   π_old                 0.50      0.25      0.25
#   R                    -1         1        -1
#   μ = (-0.5 + 0.25 - 0.25) / 1 = -0.5
#   w                    -0.25      0.375    -0.125                 Z = 0.75
#   tlpo                 -1/3       1/2      -1/6
#   unweighted           -0.5       1.5      -0.5
#   grpo: mean R = -1/3, σ² = (2 · (2/3)² + (4/3)²) / 3 = 8/9
#                        -1/√2      √2       -1/√2
THREE = {"old": [0.5, 0.25, 0.25], "rewards": [-1.0, 1.0, -1.0]}
THREE_BY_HAND = {
    "tlpo": [-1 / 3, 1 / 2, -1 / 6],
    "unweighted": [-0.5, 1.5, -0.5],
    "grpo": [-1 / math.sqrt(2), math.sqrt(2), -1 / math.sqrt(2)],
}


def row(values: list[float]) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("name", FORMS)
def test_advantages_of_three_candidates_by_hand(name: str) -> None:
    form, formula = FORMS[name]
    assert formula(THREE["old"], THREE["rewards"]) == pytest.approx(THREE_BY_HAND[name], rel=1e-12)
    advantages = form(row(THREE["old"]).log(), row(THREE["rewards"]))
    assert advantages[0].tolist() == pytest.approx(THREE_BY_HAND[name], rel=1e-6)


def test_the_objective_of_four_candidates_by_hand() -> None:
    old, policy = row(FOUR["old"]), row(FOUR["policy"])
    advantage = tlpo(old.log(), row(FOUR["rewards"])).double()
    assert advantage[0].tolist() == pytest.approx([0.25, 0.1875, -0.5, 0.0625])
    objective = tlpo_objective(policy.log(), old.log(), old.log(), advantage, 0.2, 0.2, 0.04)
    assert objective.surrogate_BK[0].tolist() == pytest.approx([0.3, 0.16875, -0.4, 0.06875])
    assert objective.kl_BK[0].tolist() == pytest.approx([0.031595, 0.005751, 0.045651, 0.004401], abs=5e-7)
    assert objective.clipped_BK[0].tolist() == [True, False, True, False]
    assert float(objective.per_group_B) == pytest.approx(0.03350102, abs=5e-9)
    by_formula = formulas.objective(
        FOUR["policy"], FOUR["old"], FOUR["old"], [0.25, 0.1875, -0.5, 0.0625], 0.2, 0.2, 0.04
    )
    assert by_formula == pytest.approx(0.03350102, abs=5e-9)


probabilities = st.floats(1e-6, 1.0)
sizes = st.shared(st.integers(2, 16), key="candidates")


def of_size(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return sizes.flatmap(lambda size: st.lists(values, min_size=size, max_size=size))


rewards = of_size(st.sampled_from([-1.0, 1.0]))


@pytest.mark.parametrize("name", FORMS)
@given(of_size(probabilities), rewards)
def test_advantages_equal_the_formula(name: str, policy: list[float], reward: list[float]) -> None:
    assume(len(set(reward)) > 1)
    form, formula = FORMS[name]
    advantages = form(row(policy).log(), row(reward))[0].tolist()
    # Ours are rounded to float32, and in the formula 1 - μ cancels where one reward has nearly all of the mass.
    assert advantages == pytest.approx(formula(policy, reward), rel=1e-5, abs=1e-7)


@given(
    of_size(probabilities), of_size(probabilities), of_size(probabilities), rewards,
    st.floats(0, 0.9), st.floats(0, 2), st.floats(0, 1),
)  # fmt: skip
def test_the_objective_equals_the_formula(
    policy: list[float], old: list[float], reference: list[float], reward: list[float],
    low: float, high: float, beta: float,
) -> None:  # fmt: skip
    advantage = formulas.tlpo_advantages(old, reward)
    objective = tlpo_objective(
        row(policy).log(), row(old).log(), row(reference).log(), row(advantage), low, high, beta
    ).per_group_B
    expected = formulas.objective(policy, old, reference, advantage, low, high, beta)
    assert float(objective) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=6))
def test_pass_rates_equal_the_formulas(answers: list[list[bool]]) -> None:
    texts = [" ".join("слово" if confused else "통화는" for confused in words) for words in answers]
    rates = pass_rates(texts, profile("ko"))
    assert rates.rpr_of_all == rates.rpr == pytest.approx(formulas.response_pass_rate(answers))
    assert rates.wpr == pytest.approx(formulas.word_pass_rate(answers))


@pytest.mark.parametrize("progress", np.linspace(0, 1, 21))
def test_the_learning_rate_equals_that_of_the_paper(progress: float) -> None:
    assert learning_rate(LearnerConfig(), progress) == pytest.approx(
        formulas.learning_rate(5e-7, 5e-8, 0.1, progress), rel=1e-9
    )
