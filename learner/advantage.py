"""Advantages of the candidates at one confusion point. Axis letters: B groups, K candidates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

AdvantageForm = Literal["tlpo", "unweighted", "grpo"]


def advantages(logp_BK: Tensor, rewards_BK: Tensor, form: AdvantageForm = "tlpo") -> Tensor:
    """[B, K] advantages; a group whose rewards are all equal gets zeros.

    With μ = Σ π_old(t_j) R(t_j) / Σ π_old(t_j) (TLPO Eq. 5):

    * ``tlpo`` (Eq. 6): A_i = w_i / Σ|w_j| with w_i = π_old(t_i) (R(t_i) - μ). Then Σ A_i = 0 and Σ|A_i| = 1.
    * ``unweighted``: A_i = R(t_i) - μ.
    * ``grpo``: A_i = (R(t_i) - mean R) / std R, population standard deviation.

    Args:
        logp_BK: natural log of π_old at the candidates.
        rewards_BK: rewards, any finite values.
        form: see above.
    """
    signal_B1 = (rewards_BK != rewards_BK[:, :1]).any(dim=1, keepdim=True)
    if form == "grpo":
        centred_BK = rewards_BK - rewards_BK.mean(dim=1, keepdim=True)
        advantage_BK = centred_BK / rewards_BK.std(dim=1, keepdim=True, correction=0)
    else:
        # Only proportions within the candidate set matter, so normalise in log space: tiny π_old cannot underflow.
        share_BK = logp_BK.softmax(dim=1)
        centred_BK = rewards_BK - (share_BK * rewards_BK).sum(dim=1, keepdim=True)
        advantage_BK = _normalised(share_BK * centred_BK) if form == "tlpo" else centred_BK
    return torch.where(signal_B1, advantage_BK, torch.zeros_like(advantage_BK))


def _normalised(weight_BK: Tensor) -> Tensor:
    return weight_BK / weight_BK.abs().sum(dim=1, keepdim=True)
