"""Advantages of the candidates at a confusion point. Shape suffixes: B groups, K candidates per group.

`learner.advantage` names one of these functions. The names are entry points of the group `tlpo_ray.advantages`, so a
package of its own can add a form without a change here. In its `pyproject.toml`::

    [project.entry-points."tlpo_ray.advantages"]
    squared = "my_package.advantages:squared"
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tlpo_ray.flow.records import UNDECIDED_REWARD


class AdvantageForm(Protocol):
    """Turns rewards into advantages. A group with equal rewards must get zeros: it carries no signal."""

    def __call__(self, logp_BK: Tensor, rewards_BK: Tensor, /) -> Tensor:
        """Return [B, K] float32 advantages; each group's depend on that group alone.

        Args:
            logp_BK: Natural logarithm of π_old at the candidates. It is not normalized over the candidate set.
            rewards_BK: Rewards, any finite values. A candidate of reward 0 is undecided: it must get 0, and the
                advantages of the others must not depend on it.
        """


def tlpo(logp_BK: Tensor, rewards_BK: Tensor) -> Tensor:
    """Return TLPO's probability-weighted, normalized advantages (Eq. 6); see `AdvantageForm`.

    A_i = w_i / Σ|w_j| with w_i = π_old(t_i) (R(t_i) - μ), and μ as in `_centered`. Then Σ A_i = 0 and Σ|A_i| = 1.
    """
    share_BK = _shares(logp_BK, rewards_BK)
    weight_BK = share_BK * _centered(share_BK, rewards_BK)
    return _divide(weight_BK, weight_BK.abs().sum(dim=1, keepdim=True))


def unweighted(logp_BK: Tensor, rewards_BK: Tensor) -> Tensor:
    """Return A_i = R(t_i) - μ with μ as in `_centered`, the paper's first ablation; see `AdvantageForm`."""
    return _centered(_shares(logp_BK, rewards_BK), rewards_BK).float()


def grpo(logp_BK: Tensor, rewards_BK: Tensor) -> Tensor:
    """Return A_i = (R(t_i) - mean R) / std R, the paper's second ablation; see `AdvantageForm`.

    Mean and standard deviation are those of all candidates that are decided (the population's). Probabilities play no
    role.
    """
    share_BK = _shares(torch.zeros_like(logp_BK), rewards_BK)
    centered_BK = _centered(share_BK, rewards_BK)
    return _divide(centered_BK, (share_BK * centered_BK.square()).sum(dim=1, keepdim=True).sqrt())


def _shares(logp_BK: Tensor, rewards_BK: Tensor) -> Tensor:
    """[B, K] float64 shares of each candidate in the probability of those that are decided; 0 for the others."""
    # Only proportions within the set matter. They span many orders of magnitude, hence float64.
    share_BK = logp_BK.double().masked_fill(rewards_BK == UNDECIDED_REWARD, -torch.inf).softmax(dim=1)
    return share_BK.nan_to_num(0.0)  # of a set without any that is decided


def _centered(share_BK: Tensor, rewards_BK: Tensor) -> Tensor:
    """[B, K] float64 rewards minus their mean μ = Σ π_old(t_j) R(t_j) / Σ π_old(t_j) (Eq. 5)."""
    # R_i - μ as a mean of differences R_i - R_j: the plain difference would cancel to 0 in floating point where nearly
    # all of π_old is on candidates with one and the same reward, and that is the usual case.
    difference_BKK = (rewards_BK[:, :, None] - rewards_BK[:, None, :]).double()
    centered_BK = (difference_BKK * share_BK[:, None, :]).sum(dim=2)
    return centered_BK.masked_fill(rewards_BK == UNDECIDED_REWARD, 0.0)


def _divide(value_BK: Tensor, scale_B1: Tensor) -> Tensor:
    """[B, K] float32 quotients; zeros where the scale is 0, which is where all rewards are equal."""
    return torch.where(scale_B1 > 0, value_BK / scale_B1, 0.0).float()
