"""`tlpo plan` on the terminal."""

from __future__ import annotations

from rich.box import ROUNDED
from rich.table import Table

from tlpo_ray.commands.display import console
from tlpo_ray.run.capacity import Split, SplitPlan, Workload, plan_split

SHOWN = 5
"""Number of splits shown around the best one."""


def plan_command(model: str, gpus: int, gpu: str, hours: float | None, workload: Workload) -> None:
    """Print the splits with the best one marked, its settings, and the assumptions.

    Raises:
        UserError: The model or GPU is unknown, there are too few GPUs, or no split fits.
    """
    plan = plan_split(model, gpus, gpu, workload)
    best = plan.best
    console.print(_table(f"{model} on {gpus} x {gpu}: an epoch of {workload.prompts:,} prompts", plan))
    if hours is not None:
        share = plan.share_of_epoch(hours)
        console.print(
            f"in {hours:g} h: {share:.0%} of an epoch, {int(share * workload.prompts):,} prompts", soft_wrap=True
        )
    console.print(
        f"rollout.num_actors={best.rollout} learner.num_ranks={best.learner} flow.max_staleness=2",
        style="bold",
        soft_wrap=True,
    )
    console.print(f"[dim]{_assumptions(plan)}[/dim]", soft_wrap=True)


def _table(title: str, plan: SplitPlan) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("split", "rollouts", "learner", "async", "sync", "GPU hours", "bound by"):
        table.add_column(heading, justify="right")
    at = plan.splits.index(plan.best)
    start = max(0, min(at - SHOWN // 2, len(plan.splits) - SHOWN))
    for split in plan.splits[start : start + SHOWN]:
        table.add_row(*_row(split), style="bold" if split is plan.best else None)
    return table


def _row(split: Split) -> tuple[str, ...]:
    overlapped = split.epoch_s(overlapped=True)
    return (
        f"{split.rollout} + {split.learner}", _hours(split.rollout_s), _hours(split.learner_s), _hours(overlapped),
        _hours(split.epoch_s(overlapped=False)), f"{overlapped * (split.rollout + split.learner) / 3600:.1f}",
        split.bottleneck if split.fits else "memory",
    )  # fmt: skip


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def _assumptions(plan: SplitPlan) -> str:
    workload, gpu = plan.workload, plan.gpu
    return (
        f"split: rollout + learner GPUs; async: rollouts overlap with updates; sync: they alternate. "
        f"Assumed, not measured: answers of {workload.answer_tokens} tokens, {workload.confused:.0%} of them confused, "
        f"{workload.concurrency} sequences per engine; decoding at {gpu.decoding:.0%} of the memory bandwidth "
        f"({plan.tokens_per_s:,.0f} tokens/s per GPU), learning at {gpu.learning:.0%} of peak, "
        f"weights sent to an actor at {gpu.network_gbs:g} GB/s; detection, start-up and stragglers are not counted."
    )
