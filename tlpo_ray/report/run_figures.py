"""Figures of one run: how training went."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.report.figure import Figure
from tlpo_ray.report.style import BLUE, sheet, thinned

Json = dict[str, Any]
CURVES = {
    "rpr_recent": "RPR of sampled answers", "reward": "reward of sampled answers", "loss": "loss",
    "kl": "KL to the reference", "reward_mass": "candidates' mass, reward +1", "clip_fraction": "share clipped",
    "ratio_deviation": "largest |ratio − 1|", "grad_norm": "gradient norm", "lr": "learning rate",
    "clean_length": "tokens of a clean answer", "length": "tokens of an answer",
}  # fmt: skip
"""Metrics that are drawn, where a run has them, in this order."""
MOST_POINTS = 300
"""Of a curve: longer runs are shown as means of stretches."""


def curves(metrics: Sequence[Json], folder: Path) -> Figure | None:
    """Small multiples of the run's metrics over its updates; None when it has none."""
    names = _drawn(metrics)
    if not names:
        return None
    panels = sheet([partial(_curve, metrics, name) for name in names], folder, "curves", height=2.3)
    return Figure(name="curves", title="Over training", caption="Over the run's updates.", panels=panels)


def meanings(metrics: Sequence[Json]) -> list[tuple[str, str]]:
    """Heading and meaning of each curve drawn."""
    return [(CURVES[name], METRICS[name].help) for name in _drawn(metrics)]


def _drawn(metrics: Sequence[Json]) -> list[str]:
    return [name for name in CURVES if sum(name in line for line in metrics) > 1]


def _curve(metrics: Sequence[Json], name: str, place: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    points = [(line["step"], line[name]) for line in metrics if name in line]
    place.plot(*zip(*thinned(points, MOST_POINTS), strict=True), color=BLUE)
    place.set_title(CURVES[name])
    place.set_xlabel("update")
    place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    place.yaxis.set_major_locator(MaxNLocator(4))
    if name == "lr":
        place.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
