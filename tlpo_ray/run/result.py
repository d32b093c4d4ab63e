"""The result of a run: `result.json` as a typed record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tlpo_ray.config.run import RunConfig
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.flow.ledger import Accounting
from tlpo_ray.run.loop import TrainSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Totals of a complete run.

    Example: 19 updates from 144 confusion points; 10,096 of 10,240 prompts were answered without confusion.
    """

    folder: Path
    """The run folder; the trained policy is in `model` below it."""
    name: str
    stack: Literal["distributed", "local"]
    updates: int
    """Updates of the policy, which is its version."""
    accounting: Accounting
    """Outcomes of all prompts."""
    prompts_rerolled: int
    """Surplus groups that were dropped at staleness 0; their prompts were rolled out again."""
    rpr_sampled: float
    """Response pass rate of the answers sampled while training (Eq. 8)."""
    tokens_generated: int
    """Sampled tokens, not counting lookaheads."""
    tokens_discarded: int
    """Tokens among them that were sampled beyond a confusion point."""
    num_actors: int
    num_ranks: int
    actor_restarts: int
    learner_restarts: int
    exchange_restarts: int
    canary: float
    """Largest difference between learner and actors after a weight sync, in nats."""
    seconds: Mapping[str, float]
    """Wall time by phase."""
    versions: Mapping[str, str]
    """Versions of the libraries that did the work."""
    seed: int
    confused_in: Mapping[str, int] = field(default_factory=dict)
    """Confused answers by the part that the confusion begins in; empty without `detector.segments`."""
    examination: Mapping[str, object] = field(default_factory=dict)
    """What an examination of the policy before and after training found; empty without one."""

    @property
    def confusion_points(self) -> int:
        """Confusion points that were learned from."""
        return self.accounting.confused

    @property
    def tokens_per_group(self) -> float:
        """Sampled tokens per confusion point that was learned from."""
        return round(self.tokens_generated / max(1, self.confusion_points), 1)

    @property
    def model(self) -> Path:
        """Folder of the trained policy in Hugging Face format."""
        return self.folder / "model"

    def to_json(self) -> dict[str, object]:
        """Return the content of `result.json`."""
        return {
            **self.examination,
            "name": self.name,
            "stack_kind": self.stack,
            "updates": self.updates,
            "confusion_points": self.confusion_points,
            "prompts": self.accounting.as_json(),
            "prompts_rerolled": self.prompts_rerolled,
            "rpr_sampled": self.rpr_sampled,
            "tokens_generated": self.tokens_generated,
            "tokens_discarded": self.tokens_discarded,
            "tokens_per_group": self.tokens_per_group,
            **({"confused_in": dict(self.confused_in)} if self.confused_in else {}),
            "actors": self.num_actors,
            "learner_ranks": self.num_ranks,
            "actor_restarts": self.actor_restarts,
            "learner_restarts": self.learner_restarts,
            "exchange_restarts": self.exchange_restarts,
            "canary_nats": self.canary,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "stack": dict(self.versions),
            "seed": self.seed,
        }


def run_result(
    config: RunConfig,
    summary: TrainSummary,
    seconds: Mapping[str, float],
    examination: Mapping[str, object] | None = None,
) -> RunResult:
    """Return the result of a run from the loop's totals.

    Args:
        seconds: Wall time of what was done outside the loop, by phase; the loop's phases are added as `train_PHASE`.
        examination: What an examination before and after training found.
    """
    in_ray = config.stack == "distributed"
    counters, incidents = summary.counters, summary.incidents
    return RunResult(
        folder=config.folder,
        name=config.name,
        stack=config.stack,
        updates=summary.updates,
        accounting=summary.accounting,
        prompts_rerolled=summary.rerolled,
        rpr_sampled=counters.rollouts.rpr,
        tokens_generated=counters.rollouts.tokens_generated,
        tokens_discarded=counters.rollouts.tokens_discarded,
        confused_in=counters.rollouts.confused_in,
        num_actors=config.rollout.num_actors if in_ray else 1,
        num_ranks=config.learner.num_ranks if in_ray else 1,
        actor_restarts=incidents.actor_restarts,
        learner_restarts=incidents.learner_restarts,
        exchange_restarts=incidents.exchange_restarts,
        canary=incidents.canary,
        seconds={**seconds, **{f"train_{name}": value for name, value in counters.seconds.items()}},
        versions=stack_versions(),
        seed=config.seed,
        examination=examination or {},
    )
