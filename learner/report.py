"""What an update says about itself. Axis letters: B groups, K candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from learner.batch import GroupBatch
from learner.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimizer step. `loss` to `clip_fraction` are means over the update's groups."""

    loss: float
    surrogate: float
    kl: float
    clip_fraction: float
    ratio_deviation: float
    """Largest |ratio - 1|."""
    grad_norm: float
    """Before clipping; NaN where the engine does not tell (ZeRO-0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """One update: p optimizer steps on the same groups.

    A learner rank reports its groups' shares of every mean; `merged` adds the ranks' reports up.
    """

    version: int
    """Policy version that it made."""
    groups: int
    lr: float
    steps: tuple[StepReport, ...]
    eos_mass: float
    """π_old of end-of-text tokens within the candidate sets, mean."""
    reward_mass: float
    """Share of the candidate sets' π_old on candidates with reward above 0, mean."""
    version_lag: float
    """Policy versions between sampling and learning, mean."""
    repaired: float
    """By how much π_old was repaired: mean |Δ log-probability| of a candidate, weighted by π_old, nats."""
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Scalars for the metrics log; one that is unknown is left out."""
        last = self.steps[-1]
        values = {
            "lr": self.lr,
            "eos_mass": self.eos_mass,
            "reward_mass": self.reward_mass,
            "version_lag": self.version_lag,
            "repaired": self.repaired,
            "loss": sum(step.loss for step in self.steps) / len(self.steps),
            "surrogate": last.surrogate,
            "kl": last.kl,
            "clip_fraction": last.clip_fraction,
            "ratio_deviation": last.ratio_deviation,
            "grad_norm": last.grad_norm,
            "update_time": self.seconds,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}


def merged(reports: Sequence[UpdateReport]) -> UpdateReport:
    """The report of an update from those of all ranks."""
    return replace(
        reports[0],
        steps=tuple(map(_merged_step, zip(*(report.steps for report in reports), strict=True))),
        eos_mass=sum(report.eos_mass for report in reports),
        reward_mass=sum(report.reward_mass for report in reports),
        repaired=sum(report.repaired for report in reports),
        seconds=max(report.seconds for report in reports),
    )


def _merged_step(steps: Sequence[StepReport]) -> StepReport:
    return StepReport(
        loss=sum(step.loss for step in steps),
        surrogate=sum(step.surrogate for step in steps),
        kl=sum(step.kl for step in steps),
        clip_fraction=sum(step.clip_fraction for step in steps),
        ratio_deviation=max(step.ratio_deviation for step in steps),
        grad_norm=steps[0].grad_norm,
    )


def step_report(batches: Sequence[GroupBatch], objectives: Sequence[Objective], grad_norm: float) -> StepReport:
    """A rank's report of one optimizer step, from the objective of each of its micro-batches."""
    weights = [batch.weight_B for batch in batches]
    return StepReport(
        loss=-share([o.per_group_B.detach() for o in objectives], weights),
        surrogate=share([o.surrogate_BK.mean(dim=1) for o in objectives], weights),
        kl=share([o.kl_BK.mean(dim=1) for o in objectives], weights),
        clip_fraction=share([o.clipped_BK.float().mean(dim=1) for o in objectives], weights),
        ratio_deviation=max(float((o.ratio_BK - 1).abs().max()) for o in objectives),
        grad_norm=grad_norm,
    )


def share(values: Sequence[Tensor], weights: Sequence[Tensor]) -> float:
    """A rank's share of the mean of a value per group: [B] values and [B] weights for each micro-batch."""
    return sum(float((value_B * weight_B).sum()) for value_B, weight_B in zip(values, weights, strict=True))
