"""The learning rate over a run."""

from __future__ import annotations

import math

from tlpo_ray.config.run import LearnerConfig


def learning_rate(config: LearnerConfig, progress: float) -> float:
    """Return the learning rate: linear warm-up from 0, but never below `lr_min`, then a cosine from `lr` to `lr_min`.

    Args:
        config: Gives `lr`, `lr_min`, and `warmup` as a share of the run.
        progress: Share of the run's prompts consumed, 0 to 1. Prompts, not updates: the number of updates of a run is
            unknown until its last answer is in.
    """
    if progress < config.warmup:
        return max(config.lr * progress / config.warmup, config.lr_min)
    if progress >= 1:
        return config.lr_min
    share = (progress - config.warmup) / (1 - config.warmup)
    return config.lr_min + (config.lr - config.lr_min) * (1 + math.cos(math.pi * share)) / 2
