"""Truncation: cut most answers short while they are clean.

Where confusion begins early in an answer, the rest of a clean one costs tokens and teaches nothing. With truncation,
most answers are sampled only that far, and the others, chosen at random, to their end. Confusion that begins later is
then learned from more rarely, in that proportion. What is reported about answers counts only those that were not to be
cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.draws import uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Decides which answers are cut short, and where.

    Example: ``Truncation(max_new_tokens=16, probability=0.75, seed=0)``
    """

    max_new_tokens: int
    """Length at which an answer is cut if it is clean so far, in tokens."""
    probability: float
    """Probability that the answer to a prompt is one of these, 0 to 1."""
    seed: int
    """Seed of the run."""

    def applies_to(self, prompt_index: int) -> bool:
        """Return whether the answer to a prompt is cut short; for one prompt of a run always the same."""
        return uniform("truncation", self.seed, prompt_index) < self.probability


def truncation_of(config: RolloutConfig, seed: int) -> Truncation | None:
    """Return the truncation that a run's settings ask for; None if they ask for none."""
    settings = config.truncation
    if settings is None:
        return None
    return Truncation(max_new_tokens=settings.max_new_tokens, probability=settings.probability, seed=seed)
