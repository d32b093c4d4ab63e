"""Eq. 4 and 7: the surrogate clipped on both sides, the KL estimate, their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.objective import MAX_LOG_RATIO, Objective, tlpo_objective


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def objective(
    ratios: torch.Tensor,
    advantages: torch.Tensor,
    *,
    old: float = 0.1,
    ref: torch.Tensor | None = None,
    beta: float = 0,
) -> Objective:
    old_logp = torch.full_like(ratios, old).log()
    return tlpo_objective(old_logp + ratios.log(), old_logp, ref, advantages, 0.2, 0.3, beta)


def test_the_surrogate_takes_the_worse_of_ratio_and_clipped_ratio() -> None:
    ratios, advantages = row(1.0, 2.0, 2.0, 0.5, 0.5, 1.25), row(0.5, 0.5, -0.5, 0.5, -0.5, 1.0)
    found = objective(ratios, advantages)
    # Clipped at 1.3 where the advantage is positive, at 0.8 where it is negative; otherwise the ratio is kept.
    torch.testing.assert_close(found.surrogate_BK, row(0.5, 0.65, -1.0, 0.25, -0.4, 1.25))
    assert found.clipped_BK.tolist() == [[False, True, False, False, True, False]]
    torch.testing.assert_close(found.ratio_BK, ratios)
    torch.testing.assert_close(found.per_group_B, found.surrogate_BK.mean(dim=1))
    assert not found.kl_BK.any()


def test_the_clip_removes_exactly_the_clipped_gradients() -> None:
    logp = row(1.0, 2.0, 2.0, 0.5, 0.5).log().requires_grad_()
    advantages = row(0.5, 0.5, -0.5, 0.5, -0.5)
    found = tlpo_objective(logp, torch.zeros_like(logp), None, advantages, 0.2, 0.3, 0.0)
    found.per_group_B.sum().backward()
    # d/d log π of ratio A is ratio A; 5 candidates share the mean.
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, row(0.5, 0.0, -1.0, 0.25, 0.0) / 5)


def test_the_kl_estimate_by_hand() -> None:
    policy, reference = row(0.5, 0.2), row(0.25, 0.4)
    found = tlpo_objective(policy.log(), policy.log(), reference.log(), row(0.0, 0.0), 0.2, 0.2, 0.04)
    # π_ref/π_θ - log(π_ref/π_θ) - 1
    torch.testing.assert_close(found.kl_BK, row(0.5 + math.log(2) - 1, 2 - math.log(2) - 1))
    torch.testing.assert_close(found.per_group_B, -0.04 * found.kl_BK.mean(dim=1))


def test_the_gradient_of_the_kl_pulls_towards_the_reference() -> None:
    logp = row(0.5, 0.2).log().requires_grad_()
    tlpo_objective(logp, logp.detach(), row(0.25, 0.4).log(), row(0.0, 0.0), 0.2, 0.2, 1.0).per_group_B.sum().backward()
    # d KL / d log π_θ = 1 - π_ref/π_θ; the objective subtracts it.
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, -row(1 - 0.5, 1 - 2.0) / 2)


logps = st.lists(st.floats(-300, 0), min_size=4, max_size=4)


@given(logps, logps, logps)
def test_objective_and_gradient_are_finite_for_any_policies(
    new: list[float], old: list[float], ref: list[float]
) -> None:
    logp = torch.tensor([new], dtype=torch.float32, requires_grad=True)
    found = tlpo_objective(
        logp, torch.tensor([old]), torch.tensor([ref]), torch.tensor([[0.5, -0.25, -0.25, 0.0]]), 0.2, 0.2, 0.04
    )
    found.per_group_B.sum().backward()
    assert logp.grad is not None and bool(logp.grad.isfinite().all())
    assert float(found.kl_BK.min()) >= 0
    assert float(found.ratio_BK.max()) <= math.exp(MAX_LOG_RATIO) * (1 + 1e-6)


def test_monitored_values_hold_no_graph() -> None:
    logp = row(0.3, 0.2).log().requires_grad_()
    found = tlpo_objective(logp, row(0.3, 0.2).log(), row(0.2, 0.3).log(), row(0.5, -0.5), 0.2, 0.2, 0.04)
    assert found.per_group_B.requires_grad
    assert not any(t.requires_grad for t in (found.surrogate_BK, found.kl_BK, found.ratio_BK))


def test_a_kl_term_without_a_reference_is_an_error() -> None:
    with pytest.raises(AssertionError, match="reference"):
        objective(row(1.0), row(0.0), beta=0.04)
