"""TLPO's objective at the confusion points. Shape suffixes: B groups, K candidates per group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Bound on |log ratio| before exp(), in nats: e^20 is far beyond any clip range, and float32 overflows at e^88."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Eq. 4 and 7 for every group, with the parts worth monitoring. Gradients flow through `per_group_B` alone."""

    per_group_B: Tensor
    """Value to be maximized: mean over the candidates of surrogate - β KL."""
    surrogate_BK: Tensor
    """min(ratio A, clip(ratio) A)."""
    kl_BK: Tensor
    """Estimate of KL(π_θ ‖ π_ref) at the candidates in nats, never negative; zeros without a reference."""
    ratio_BK: Tensor
    """π_θ / π_old."""
    clipped_BK: Tensor
    """Whether the clip removed the candidate's gradient."""


def tlpo_objective(
    logp_BK: Tensor,
    old_logp_BK: Tensor,
    ref_logp_BK: Tensor | None,
    advantages_BK: Tensor,
    clip_low: float,
    clip_high: float,
    beta: float,
) -> Objective:
    """Return mean_i [ min(ratio_i A_i, clip(ratio_i, 1 - clip_low, 1 + clip_high) A_i) - β KL_i ] (TLPO Eq. 4, 7).

    It is to be maximized.

    KL_i = π_ref/π_θ - log(π_ref/π_θ) - 1, an estimate that is never negative.

    Args:
        logp_BK: [B, K] natural logarithm of π_θ at the candidates; gradients flow through it alone.
        old_logp_BK: The same of π_old, the policy that the candidate set came from.
        ref_logp_BK: The same of the reference policy; may be None when `beta` is 0.
        advantages_BK: [B, K] A, from a form in `learner.advantage`.
        clip_low: ε below 1.
        clip_high: ε above 1.
        beta: Weight of the KL.
    """
    ratio_BK = (logp_BK - old_logp_BK).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    unclipped_BK = ratio_BK * advantages_BK
    bounded_BK = ratio_BK.clamp(1 - clip_low, 1 + clip_high) * advantages_BK
    surrogate_BK = torch.minimum(unclipped_BK, bounded_BK)
    kl_BK = _kl(logp_BK, ref_logp_BK, beta)
    return Objective(
        per_group_B=(surrogate_BK - beta * kl_BK).mean(dim=1),
        surrogate_BK=surrogate_BK.detach(),
        kl_BK=kl_BK.detach(),
        ratio_BK=ratio_BK.detach(),
        clipped_BK=bounded_BK < unclipped_BK,
    )


def _kl(logp_BK: Tensor, ref_logp_BK: Tensor | None, beta: float) -> Tensor:
    if ref_logp_BK is None:
        assert beta == 0, "a KL term needs the reference policy's log-probabilities"
        return torch.zeros_like(logp_BK)
    log_ratio_BK = (ref_logp_BK - logp_BK).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    # In float32, exp(x) - x - 1 is rounding noise for a policy that has hardly moved, and may be negative.
    return log_ratio_BK.expm1() - log_ratio_BK
