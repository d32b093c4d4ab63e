"""Advantages of the candidates at one confusion point. Axis letters: B groups, K candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from tlpo_ray.config.run import AdvantageForm


def advantages(logp_BK: Tensor, rewards_BK: Tensor, form: AdvantageForm = "tlpo") -> Tensor:
    """[B, K] float32 advantages; a group whose rewards are all equal gets zeros.

    With μ = Σ π_old(t_j) R(t_j) / Σ π_old(t_j) (TLPO Eq. 5):

    * ``tlpo`` (Eq. 6): A_i = w_i / Σ|w_j| with w_i = π_old(t_i) (R(t_i) - μ). Then Σ A_i = 0 and Σ|A_i| = 1.
    * ``unweighted``: A_i = R(t_i) - μ.
    * ``grpo``: A_i = (R(t_i) - mean R) / std R, population standard deviation.

    Args:
        logp_BK: natural log of π_old at the candidates.
        rewards_BK: rewards, any finite values.
        form: see above.
    """
    # Only proportions within the candidate set matter. They span many orders of magnitude: hence float64.
    share_BK = logp_BK.double().softmax(dim=1)
    if form == "grpo":
        share_BK = torch.full_like(share_BK, 1 / share_BK.shape[1])
    # R_i - μ as a mean of differences: 1 - μ itself would cancel to 0 where nearly all of π_old has one reward.
    difference_BKK = (rewards_BK[:, :, None] - rewards_BK[:, None, :]).double()
    centred_BK = (difference_BKK * share_BK[:, None, :]).sum(dim=2)
    if form == "unweighted":
        return centred_BK.float()
    if form == "grpo":
        return _over(centred_BK, centred_BK.square().mean(dim=1, keepdim=True).sqrt())
    weight_BK = share_BK * centred_BK
    return _over(weight_BK, weight_BK.abs().sum(dim=1, keepdim=True))


def _over(value_BK: Tensor, scale_B1: Tensor) -> Tensor:
    return torch.where(scale_B1 > 0, value_BK / scale_B1, 0.0).float()
