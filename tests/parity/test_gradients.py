"""Gradients by central differences of the formulas: at the logits, and through a policy and the learner's own loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from learner.batch import make_batch, pack_contexts
from learner.objective import tlpo_objective
from learner.policy import candidate_logp
from learner.worker import build_learner
from tests.parity import formulas
from tests.tiny import random_groups
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig

CANDIDATES, VOCABULARY = 4, 7
LOW, HIGH, BETA = 0.2, 0.3, 0.04
KINK = 1e-4
"""Smallest distance of a ratio to a bound of the clip, where there is no derivative."""
STEP = 1e-6

logits = st.lists(st.floats(-2, 2), min_size=VOCABULARY, max_size=VOCABULARY)
shares = st.lists(st.floats(0.02, 0.9), min_size=CANDIDATES, max_size=CANDIDATES)
rewards = st.lists(st.sampled_from([-1.0, 1.0]), min_size=CANDIDATES, max_size=CANDIDATES)


@given(logits, shares, shares, rewards)
def test_the_gradient_at_the_logits_equals_that_of_the_formulas(
    start: list[float], old: list[float], reference: list[float], reward: list[float]
) -> None:
    ratios = formulas.softmax(np.array(start))[:CANDIDATES] / old
    assume(min(np.abs(ratios - (1 - LOW)).min(), np.abs(ratios - (1 + HIGH)).min()) > KINK)
    advantage = formulas.tlpo_advantages(old, reward)

    def value(at: formulas.Float64) -> float:
        policy = formulas.softmax(at)[:CANDIDATES]
        return formulas.objective(list(policy), old, reference, advantage, LOW, HIGH, BETA)

    expected = [
        (value(np.array(start) + STEP * unit) - value(np.array(start) - STEP * unit)) / (2 * STEP)
        for unit in np.eye(VOCABULARY)
    ]
    at = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    tlpo_objective(
        at.log_softmax(1)[:, :CANDIDATES], row(old).log(), row(reference).log(), row(advantage), LOW, HIGH, BETA
    ).per_group_B.sum().backward()
    assert at.grad is not None
    assert at.grad[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.5, 0.5, False),  # above the range, positive advantage: clipped
        (1.5, -0.5, True),
        (0.5, -0.5, False),  # below the range, negative advantage: clipped
        (0.5, 0.5, True),
        (1.1, 0.5, True),
    ],
)
def test_a_clipped_candidate_has_no_gradient_and_no_slope(ratio: float, advantage: float, moves: bool) -> None:
    old, values = 0.2, []
    for shift in (-STEP, STEP):
        policy = ratio * old * np.exp(shift)
        values.append(formulas.objective([policy], [old], [policy], [advantage], LOW, HIGH, 0.0))
    slope = (values[1] - values[0]) / (2 * STEP)
    logp = row([ratio * old]).log().requires_grad_()
    tlpo_objective(logp, row([old]).log(), None, row([advantage]), LOW, HIGH, 0.0).per_group_B.sum().backward()
    assert logp.grad is not None
    assert float(logp.grad) == pytest.approx(slope, abs=1e-9) == (ratio * advantage if moves else 0.0)


PARAMETERS = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight")


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_learner_s_gradient_equals_the_slope_of_the_formulas(tiny_model: Path, name: str) -> None:
    """Checked in a second iteration: ratios differ from 1, some candidates are clipped, and the KL has a gradient."""
    config = LearnerConfig(engine="torch", lr=1e-3, warmup=0.0)
    worker = build_learner(ModelConfig(path=str(tiny_model), dtype="float32"), config, seed=0)
    groups = random_groups(tiny_model, 4)
    worker.update(groups, 0.0)
    module, batch = worker.engine.module, make_batch(groups, [1 / 4] * 4, pack_contexts)  # type: ignore[attr-defined]
    reference_BK = worker.reference_logp(batch)
    assert reference_BK is not None

    objective = worker.objective(candidate_logp(module, batch), batch, reference_BK)
    assert 0.05 < float(objective.clipped_BK.double().mean()) < 0.95 and float(objective.kl_BK.max()) > 1e-3
    loss = -(objective.per_group_B * batch.weight_B).sum()
    parameter = module.get_parameter(name)
    (gradient,) = torch.autograd.grad(loss, parameter)

    def formula() -> float:
        with torch.no_grad():
            policy_BK = candidate_logp(module, batch).double().exp()
        values = [
            formulas.objective(
                policy.tolist(), old.tolist(), reference.tolist(),
                formulas.tlpo_advantages(old.tolist(), rewards.tolist()),
                config.clip_low, config.clip_high, config.beta,
            )
            for policy, old, reference, rewards in zip(
                policy_BK, batch.old_logp_BK.double().exp(), reference_BK.double().exp(), batch.rewards_BK, strict=True
            )
        ]  # fmt: skip
        return -sum(values) / len(values)

    assert formula() == pytest.approx(float(loss.detach()), rel=1e-5)
    # The model computes in float32: a step of 1e-3 is far larger than its rounding, and smaller than the distance to
    # the nearest kink.
    step, direction = 1e-3, gradient / gradient.norm()
    with torch.no_grad():
        parameter += step * direction
        above = formula()
        parameter -= 2 * step * direction
        below = formula()
    assert (above - below) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.02)
