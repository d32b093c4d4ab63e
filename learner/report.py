"""Statistics of an update. Shape suffixes: B groups, K candidates per group."""

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
    """KL to the reference policy at the candidates, in nats."""
    clip_fraction: float
    """Share of the candidates that lost their gradient to the clip."""
    ratio_deviation: float
    """Largest |ratio - 1|."""
    grad_norm: float
    """Gradient norm before clipping; NaN where the engine does not compute it (ZeRO-0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """One update: p optimizer steps on the same groups.

    A learner rank reports its partial sums of the means over the update's groups, `policy_lag` excepted, which every
    rank knows in full; `merge_reports` adds the ranks' reports up.
    """

    version: int
    """Policy version that the update made."""
    groups: int
    """Groups of the update, over all ranks."""
    lr: float
    steps: tuple[StepReport, ...]
    eos_mass: float
    """Probability under π_old of the end-of-text tokens among a group's candidates, 0 to 1; mean over the groups."""
    reward_mass: float
    """Share of a candidate set's π_old that is on candidates with reward above 0, 0 to 1; mean over the groups."""
    policy_lag: float
    """Mean staleness of the update's groups, in policy versions."""
    old_logprob_shift: float
    """How far recomputing π_old moved it (`learner.recompute_old_logprobs`): mean |Δ log-probability| of a candidate,
    weighted by π_old, in nats; 0 without."""
    seconds: float
    """Duration of the update; of all ranks, the slowest's."""

    def metrics(self) -> dict[str, float]:
        """Return scalars for the metrics log by metric name; unknown (NaN) ones are left out."""
        last = self.steps[-1]
        values = {
            "lr": self.lr,
            "eos_mass": self.eos_mass,
            "reward_mass": self.reward_mass,
            "policy_lag": self.policy_lag,
            "old_logprob_shift": self.old_logprob_shift,
            "loss": sum(step.loss for step in self.steps) / len(self.steps),
            "surrogate": last.surrogate,
            "kl": last.kl,
            "clip_fraction": last.clip_fraction,
            "ratio_deviation": last.ratio_deviation,
            "grad_norm": last.grad_norm,
            "update_time": self.seconds,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}


def merge_reports(reports: Sequence[UpdateReport]) -> UpdateReport:
    """Return the report of an update from those of all its ranks."""
    return replace(
        reports[0],
        steps=tuple(map(_merge_steps, zip(*(report.steps for report in reports), strict=True))),
        eos_mass=sum(report.eos_mass for report in reports),
        reward_mass=sum(report.reward_mass for report in reports),
        old_logprob_shift=sum(report.old_logprob_shift for report in reports),
        seconds=max(report.seconds for report in reports),
    )


def _merge_steps(steps: Sequence[StepReport]) -> StepReport:
    return StepReport(
        loss=sum(step.loss for step in steps),
        surrogate=sum(step.surrogate for step in steps),
        kl=sum(step.kl for step in steps),
        clip_fraction=sum(step.clip_fraction for step in steps),
        ratio_deviation=max(step.ratio_deviation for step in steps),
        grad_norm=steps[0].grad_norm,  # of the summed gradient, hence the same on every rank
    )


def step_report(batches: Sequence[GroupBatch], objectives: Sequence[Objective], grad_norm: float) -> StepReport:
    """Return a rank's report of one optimizer step.

    Args:
        batches: The rank's micro-batches.
        objectives: Objective of each micro-batch.
        grad_norm: Gradient norm before clipping.
    """
    weights = [batch.weight_B for batch in batches]
    return StepReport(
        loss=-share_of_mean([o.per_group_B.detach() for o in objectives], weights),
        surrogate=share_of_mean([o.surrogate_BK.mean(dim=1) for o in objectives], weights),
        kl=share_of_mean([o.kl_BK.mean(dim=1) for o in objectives], weights),
        clip_fraction=share_of_mean([o.clipped_BK.float().mean(dim=1) for o in objectives], weights),
        ratio_deviation=max(float((o.ratio_BK - 1).abs().max()) for o in objectives),
        grad_norm=grad_norm,
    )


def share_of_mean(values: Sequence[Tensor], weights: Sequence[Tensor]) -> float:
    """Return a rank's share of the update's mean of a value per group; the ranks' shares sum to the mean.

    Args:
        values: [B] for each micro-batch.
        weights: `GroupBatch.weight_B` for each micro-batch.
    """
    return sum(float((value_B * weight_B).sum()) for value_B, weight_B in zip(values, weights, strict=True))
