"""Figures of one run: its metrics over training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.report.figure import Figure
from tlpo_ray.report.style import BLUE, sheet, thin_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Json = dict[str, Any]
CURVES = {
    "rpr_recent": "RPR of sampled answers", "reward": "reward of sampled answers", "loss": "loss",
    "kl": "KL to the reference", "reward_mass": "candidates' mass, reward +1", "clip_fraction": "share clipped",
    "ratio_deviation": "largest |ratio − 1|", "grad_norm": "gradient norm", "lr": "learning rate",
    "clean_length": "tokens per clean answer", "length": "tokens per answer",
}  # fmt: skip
"""Metric → title of its curve, in the order of the figure; a run shows those that it has."""
MAX_POINTS = 300
"""Most points of a curve; longer runs are drawn as means of stretches."""


def curves(metrics: Sequence[Json], folder: Path) -> Figure | None:
    """Draw the metrics of a run over its updates, one panel each; None if there is nothing to draw.

    Args:
        metrics: Lines of `metrics.jsonl`.
        folder: Folder for the files of the figure.
    """
    names = _drawn_metrics(metrics)
    if not names:
        return None
    panels = sheet([partial(_draw_curve, metrics, name) for name in names], folder, "curves", height=2.3)
    return Figure(name="curves", title="Training curves", caption="Metrics over the run's updates.", panels=panels)


def meanings(metrics: Sequence[Json]) -> list[tuple[str, str]]:
    """Return title and meaning of each curve."""
    return [(CURVES[name], METRICS[name].help) for name in _drawn_metrics(metrics)]


def _drawn_metrics(metrics: Sequence[Json]) -> list[str]:
    return [name for name in CURVES if sum(name in line for line in metrics) > 1]


def _draw_curve(metrics: Sequence[Json], name: str, place: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    points = [(line["step"], line[name]) for line in metrics if name in line]
    place.plot(*zip(*thin_out(points, MAX_POINTS), strict=True), color=BLUE)
    place.set_title(CURVES[name])
    place.set_xlabel("update")
    place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    place.yaxis.set_major_locator(MaxNLocator(4))
    if name == "lr":
        place.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
