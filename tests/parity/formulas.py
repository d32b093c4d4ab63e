"""The paper's formulas in plain NumPy: float64 and loops, written from the formulas and not from our code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Group = tuple[int, Sequence[int], Sequence[float], Sequence[float]]
"""Context (its last token), candidates, their π_old and their rewards at one confusion point."""


def mean_reward(policy: Sequence[float], rewards: Sequence[float]) -> float:
    """Eq. 5: μ, the candidates' rewards weighted by their probability."""
    total = weighted = 0.0
    for p, r in zip(policy, rewards, strict=True):
        total += p
        weighted += p * r
    return weighted / total


def tlpo_advantages(policy: Sequence[float], rewards: Sequence[float]) -> list[float]:
    """Eq. 6: A_i = w_i / Z with w_i = π_old(t_i) (R(t_i) - μ) and Z = Σ|w_j|; zeros where Z is 0."""
    mu = mean_reward(policy, rewards)
    weights = [p * (r - mu) for p, r in zip(policy, rewards, strict=True)]
    z = sum(abs(w) for w in weights)
    return [w / z if z > 0 else 0.0 for w in weights]


def unweighted_advantages(policy: Sequence[float], rewards: Sequence[float]) -> list[float]:
    """The paper's first ablation: R(t_i) - μ."""
    mu = mean_reward(policy, rewards)
    return [r - mu for r in rewards]


def grpo_advantages(policy: Sequence[float], rewards: Sequence[float]) -> list[float]:
    """The paper's second ablation: (R(t_i) - mean R) / σ, zeros where σ is 0."""
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
    return [(r - mean) / deviation if deviation > 0 else 0.0 for r in rewards]


def clipped(ratio: float, low: float, high: float) -> float:
    """clip(ratio, 1 - ε, 1 + ε)."""
    return min(max(ratio, 1 - low), 1 + high)


def kl(policy: float, reference: float) -> float:
    """Eq. 7's estimate: π_ref/π_θ - log(π_ref/π_θ) - 1."""
    x = reference / policy
    return x - math.log(x) - 1


def objective(
    policy: Sequence[float],
    old: Sequence[float],
    reference: Sequence[float],
    advantages: Sequence[float],
    low: float,
    high: float,
    beta: float,
) -> float:
    """Eq. 4 and 7 at one confusion point: the mean over candidates of min(ratio A, clip(ratio) A) - β KL."""
    total = 0.0
    for p, o, q, a in zip(policy, old, reference, advantages, strict=True):
        ratio = p / o
        total += min(ratio * a, clipped(ratio, low, high) * a) - beta * kl(p, q)
    return total / len(policy)


def softmax(logits: Float64) -> Float64:
    """Probabilities of one row of logits."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def response_pass_rate(answers: Sequence[Sequence[bool]]) -> float:
    """Eq. 8: answers without a confused word / answers; an answer is a row of words, True where confused."""
    return sum(1 for words in answers if not any(words)) / len(answers)


def word_pass_rate(answers: Sequence[Sequence[bool]]) -> float:
    """Eq. 9: words without confusion / words."""
    words = [confused for answer in answers for confused in answer]
    return sum(1 for confused in words if not confused) / len(words)


def learning_rate(peak: float, lowest: float, warmup: float, progress: float) -> float:
    """10 % linear warm-up (not below the lowest rate), then half a cosine down to the lowest rate."""
    if progress < warmup:
        return max(lowest, peak * progress / warmup)
    angle = math.pi * (progress - warmup) / (1 - warmup)
    return lowest + 0.5 * (peak - lowest) * (1 + math.cos(angle))


class LinearPolicy:
    """π(·|x) = softmax(W[last token of x] + b), trained by TLPO with AdamW.

    Args:
        weight: [V, V] logits, one row per last token; weight decay applies.
        bias: [V] logits; weight decay does not apply.
    """

    def __init__(self, weight: Float64, bias: Float64) -> None:
        self.parameters = [weight.copy(), bias.copy()]
        self.reference = [weight.copy(), bias.copy()]
        self._first = [np.zeros_like(p) for p in self.parameters]
        self._second = [np.zeros_like(p) for p in self.parameters]
        self._steps = 0

    def probabilities(self, context: int) -> Float64:
        """Return [V] probabilities of the next token."""
        return softmax(self.parameters[0][context] + self.parameters[1])

    def gradient(self, groups: Sequence[Group], low: float, high: float, beta: float) -> list[Float64]:
        """Return the gradient of minus the mean objective, derived by hand with the chain rule."""
        weight, bias = (np.zeros_like(p) for p in self.parameters)
        for context, candidates, old, rewards in groups:
            policy = self.probabilities(context)
            reference = softmax(self.reference[0][context] + self.reference[1])
            for i, (token, a) in enumerate(zip(candidates, tlpo_advantages(old, rewards), strict=True)):
                ratio = policy[token] / old[i]
                # d ratio / d log π = ratio; none where the clipped product is the smaller one.
                pull = ratio * a if ratio * a <= clipped(ratio, low, high) * a else 0.0
                pull -= beta * (1 - reference[token] / policy[token])
                # d log π(t) / d logits = e_t - π.
                row = -policy * pull
                row[token] += pull
                share = -row / len(candidates) / len(groups)
                weight[context] += share
                bias += share
        return [weight, bias]

    def step(
        self, gradient: list[Float64], lr: float, betas: tuple[float, float], decay: float, max_norm: float
    ) -> float:
        """Make one AdamW step on the gradient scaled down to `max_norm`; returns the norm before."""
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradient))
        scale = min(1.0, max_norm / norm)
        self._steps += 1
        for i, g in enumerate(gradient):
            self._first[i] = betas[0] * self._first[i] + (1 - betas[0]) * g * scale
            self._second[i] = betas[1] * self._second[i] + (1 - betas[1]) * (g * scale) ** 2
            first = self._first[i] / (1 - betas[0] ** self._steps)
            second = self._second[i] / (1 - betas[1] ** self._steps)
            if self.parameters[i].ndim > 1:
                self.parameters[i] *= 1 - lr * decay
            self.parameters[i] -= lr * first / (np.sqrt(second) + 1e-8)
        return norm
