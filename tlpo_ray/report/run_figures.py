"""Figures of one run: how training went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.report.style import BLUE, figure, save

Json = dict[str, Any]
CURVES = {
    "rpr_recent": "RPR of sampled answers", "reward": "reward of sampled answers", "loss": "loss",
    "kl": "KL to the reference", "reward_mass": "candidates' mass with reward +1", "clip_fraction": "share clipped",
    "ratio_deviation": "largest |ratio - 1|", "grad_norm": "gradient norm", "lr": "learning rate",
    "clean_length": "tokens of a clean answer", "length": "tokens of an answer",
}  # fmt: skip
"""Metrics that are drawn, where a run has them, in this order."""
ACROSS = 3


def curves(metrics: Sequence[Json], folder: Path) -> str | None:
    """Small multiples of the run's metrics over its optimizer updates; None when it has none."""
    names = [name for name in CURVES if sum(name in line for line in metrics) > 1]
    if not names:
        return None
    rows = -(-len(names) // ACROSS)
    with figure(9.6, 2.25 * rows, rows, ACROSS) as (drawn, axes):
        for name, place in zip(names, axes.flat, strict=False):
            points = [(line["step"], line[name]) for line in metrics if name in line]
            place.plot(*zip(*points, strict=True), color=BLUE)
            place.set_title(CURVES[name])
            place.ticklabel_format(
                axis="y", style="plain" if name != "lr" else "sci", scilimits=(0, 0), useOffset=False
            )
        for place in list(axes.flat)[len(names) :]:
            place.remove()
        for place in axes[-1]:
            place.set_xlabel("update")
        return save(drawn, folder, "curves")


def meanings(metrics: Sequence[Json]) -> list[tuple[str, str]]:
    """Heading and meaning of each curve drawn."""
    names = [name for name in CURVES if sum(name in line for line in metrics) > 1]
    return [(CURVES[name], METRICS[name]) for name in names]
