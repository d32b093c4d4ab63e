"""TLPO's objective at the confusion points. Axis letters: B groups, K candidates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Nats. |log ratio| is capped before exp(): e^20 is far beyond any clip range, and float32 overflows at 88."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Eq. 4 and 7 for every group, with the parts that are worth watching. Gradients flow through the first alone."""

    per_group_B: Tensor
    """To be maximised: mean over candidates of surrogate - β KL."""
    surrogate_BK: Tensor
    """min(ratio A, clip(ratio) A)."""
    kl_BK: Tensor
    """Estimate of KL(π_θ ‖ π_ref) at the candidates, nats, never negative; zeros without a reference."""
    ratio_BK: Tensor
    """π_θ / π_old."""
    clipped_BK: Tensor
    """Where the clip took the gradient away."""


def tlpo_objective(
    logp_BK: Tensor,
    old_logp_BK: Tensor,
    ref_logp_BK: Tensor | None,
    advantages_BK: Tensor,
    clip_low: float,
    clip_high: float,
    beta: float,
) -> Objective:
    """mean_i [ min(ratio_i A_i, clip(ratio_i, 1 - clip_low, 1 + clip_high) A_i) - β KL_i ] (TLPO Eq. 4, 7).

    KL_i = π_ref/π_θ - log(π_ref/π_θ) - 1.

    Args:
        logp_BK: natural log of π_θ at the candidates; gradients flow through it alone.
        old_logp_BK: of π_old, the policy that the candidate set came from.
        ref_logp_BK: of the reference policy; may be None when `beta` is 0.
        advantages_BK: see `learner.advantage`.
        clip_low: ε below 1.
        clip_high: ε above 1.
        beta: weight of the KL.
    """
    ratio_BK = (logp_BK - old_logp_BK).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    free_BK = ratio_BK * advantages_BK
    held_BK = ratio_BK.clamp(1 - clip_low, 1 + clip_high) * advantages_BK
    surrogate_BK = torch.minimum(free_BK, held_BK)
    kl_BK = _kl(logp_BK, ref_logp_BK, beta)
    return Objective(
        per_group_B=(surrogate_BK - beta * kl_BK).mean(dim=1),
        surrogate_BK=surrogate_BK.detach(),
        kl_BK=kl_BK.detach(),
        ratio_BK=ratio_BK.detach(),
        clipped_BK=held_BK < free_BK,
    )


def _kl(logp_BK: Tensor, ref_logp_BK: Tensor | None, beta: float) -> Tensor:
    if ref_logp_BK is None:
        assert beta == 0, "a KL term needs the reference policy's log-probabilities"
        return torch.zeros_like(logp_BK)
    log_ratio_BK = (ref_logp_BK - logp_BK).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio_BK.exp() - log_ratio_BK - 1
