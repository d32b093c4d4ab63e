"""`tlpo plan`: how to divide GPUs, and what an epoch takes."""

from __future__ import annotations

from typing import TypeVar

from rich.box import ROUNDED
from rich.table import Table

from tlpo_ray.commands.display import console
from tlpo_ray.errors import UserError
from tlpo_ray.run.capacity import MACHINES, MODELS, Job, Machine, Network, Split, splits, tokens_per_s

T = TypeVar("T")
SHOWN = 5
"""Splits around the best one."""


def plan_command(model: str, gpus: int, gpu: str, hours: float | None, job: Job) -> None:
    """Print the splits, the best one marked, and what was assumed.

    Raises:
        UserError: no such model or GPU, too few GPUs, or nothing fits.
    """
    network, machine = _known("--model", model, MODELS), _known("--gpu", gpu, MACHINES)
    if gpus < 2:
        raise UserError(f"--gpus {gpus}: rollouts and learner need one each, so 2 at least")
    found = list(splits(gpus, network, machine, job))
    fitting = [one for one in found if one.fits]
    if not fitting:
        least = min(one.learner_gb for one in found)
        raise UserError(
            f"--gpus {gpus}: weights and optimizer of {model} need {least:.0f} GB on each of {gpus - 1} learner GPUs, "
            f"a {gpu} has {machine.memory_gb:.0f}: take more GPUs, or learner.lora"
        )
    best = min(fitting, key=lambda one: one.epoch_s(ahead=True))
    console.print(_table(f"{model} on {gpus} x {gpu}: an epoch of {job.prompts:,} prompts", found, best))
    if hours is not None:
        share = min(1.0, hours * 3600 / best.epoch_s(ahead=True))
        console.print(f"in {hours:g} h: {share:.0%} of an epoch, {int(share * job.prompts):,} prompts", soft_wrap=True)
    console.print(
        f"rollout.num_actors={best.rollout} learner.num_ranks={best.learner} flow.max_staleness=2",
        style="bold",
        soft_wrap=True,
    )
    console.print(f"[dim]{_assumed(network, machine, job)}[/dim]", soft_wrap=True)


def _known(option: str, name: str, table: dict[str, T]) -> T:
    if name not in table:
        raise UserError(f"{option} {name}: expected one of {', '.join(table)}")
    return table[name]


def _table(title: str, found: list[Split], best: Split) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("split", "rollouts", "learner", "ahead", "in turns", "GPU hours", "bound by"):
        table.add_column(heading, justify="right")
    at = found.index(best)
    start = max(0, min(at - SHOWN // 2, len(found) - SHOWN))
    for one in found[start : start + SHOWN]:
        ahead = one.epoch_s(ahead=True)
        table.add_row(
            f"{one.rollout} + {one.learner}", _hours(one.rollout_s), _hours(one.learner_s), _hours(ahead),
            _hours(one.epoch_s(ahead=False)), f"{ahead * (one.rollout + one.learner) / 3600:.1f}",
            one.bound if one.fits else "memory", style="bold" if one is best else None,
        )  # fmt: skip
    return table


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def _assumed(network: Network, machine: Machine, job: Job) -> str:
    return (
        f"split: rollout + learner GPUs. "
        f"Assumed, not measured: answers of {job.answer_tokens} tokens, {job.confused:.0%} of them confused, "
        f"{job.concurrency} sequences an engine; decoding at {machine.decoding:.0%} of the memory's bandwidth "
        f"({tokens_per_s(network, machine, job):,.0f} tokens/s a GPU), learning at {machine.learning:.0%} of peak, "
        f"weights to an actor at {machine.network_gbs:g} GB/s; detection, start-up and stragglers left out."
    )
