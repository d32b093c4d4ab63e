"""Equations 4 to 9 once more, written straight from the paper in NumPy: loops, float64, nothing shared with ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


def mean_reward(p: Floats, r: Floats) -> float:
    """μ (Eq. 5)."""
    above = below = 0.0
    for j in range(len(p)):
        above += p[j] * r[j]
        below += p[j]
    return above / below


def tlpo_advantage(p: Floats, r: Floats) -> Floats:
    """A_i = w_i / Z (Eq. 6); zeros where Z is 0."""
    mu = mean_reward(p, r)
    w = np.array([p[i] * (r[i] - mu) for i in range(len(p))])
    z = sum(abs(w[j]) for j in range(len(p)))
    return w / z if z > 0 else np.zeros(len(p))


def unweighted_advantage(p: Floats, r: Floats) -> Floats:
    """R_i - μ."""
    return np.array([r[i] - mean_reward(p, r) for i in range(len(p))])


def grpo_advantage(p: Floats, r: Floats) -> Floats:
    """(R_i - mean) / population standard deviation; zeros where that is 0."""
    mean = sum(r) / len(r)
    deviation = (sum((one - mean) ** 2 for one in r) / len(r)) ** 0.5
    return np.array([(one - mean) / deviation if deviation > 0 else 0.0 for one in r])


def objective(new: Floats, old: Floats, ref: Floats, advantage: Floats, low: float, high: float, beta: float) -> float:
    """mean_i of the clipped surrogate (Eq. 4) less β times the KL estimate (Eq. 7); all arguments are probabilities."""
    total = 0.0
    for i in range(len(new)):
        ratio = new[i] / old[i]
        clipped = min(max(ratio, 1 - low), 1 + high)
        surrogate = min(ratio * advantage[i], clipped * advantage[i])
        kl = ref[i] / new[i] - np.log(ref[i] / new[i]) - 1
        total += surrogate - beta * kl
    return total / len(new)


def response_pass_rate(confused_words: Sequence[int]) -> float:
    """Eq. 8, of the number of confused words in each response."""
    return sum(1 for one in confused_words if one == 0) / len(confused_words)


def word_pass_rate(words: Sequence[int], confused_words: Sequence[int]) -> float:
    """Eq. 9."""
    return 1 - sum(confused_words) / sum(words)
