"""Figures of an experiment, each drawn if its data exists; the figure numbers in titles are the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tlpo_ray.report.figure import Figure
from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.style import BLUE, INK, Draw, Key, key, sheet, thin_out
from tlpo_ray.report.summary import CANDIDATES_AXIS, Axis, Cell, VariantSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Variants = Sequence[VariantSummary]
FORMS = {"tlpo": "TLPO", "unweighted": "R − μ", "grpo": "GRPO"}
"""Form of the advantage → its name in figures."""
RATES = {"rpr": "RPR, %", "accuracy": "accuracy, %", "accuracy_strict": "right and clean, %"}
"""Metric → title of its panel."""
ROWS = {
    "rpr": "RPR, %", "wanted": "wanted foreign text kept, %", "accuracy_strict": "right and clean, %",
    "times_plain": "time per token, × plain",
}  # fmt: skip
"""Metric → title of its panel where every method has a row."""
CURVES = {"rpr": "RPR of sampled answers", "reward": "mean reward", "length": "tokens per answer"}
"""Quantity of a trial's curve → title of its panel."""
MAX_POINTS = 40
"""Most points of a curve; more would show noise."""
SPREAD_CAPTION = "Mean over seeds, bars one standard deviation; the dashed line is the model before training."


def draw_figures(source: ExperimentSource, variants: Variants, folder: Path) -> list[Figure]:
    """Draw every figure that the experiment's data allows, except those of `probed_figures`.

    Args:
        source: The experiment.
        variants: Its variants, summarised.
        folder: Folder for the files of the figures.
    """
    draw: tuple[Callable[[Variants, Path], Figure | None], ...] = (
        rpr_and_accuracy, methods_beside_each_other, learning_rates, advantages_and_selections, training_curves, cost,
    )  # fmt: skip
    figures = (function(variants, folder) for function in draw)
    return [figure for figure in (*figures, *single_settings(variants, folder)) if figure is not None]


def rpr_and_accuracy(variants: Variants, folder: Path) -> Figure | None:
    """Draw RPR against accuracy (Fig. 4, 5); None with fewer than two trained variants."""
    shown = [variant for variant in variants if {"rpr", "accuracy"} <= variant.cells.keys() and not variant.axes]
    shown = [variant for variant in shown if variant.method != "none"]
    if len(shown) < 2:
        return None
    names = [name for name in ("accuracy", "accuracy_strict") if any(name in variant.cells for variant in shown)]
    keys = _keys(shown)
    panels = sheet(
        [partial(_draw_scatter, shown, keys, name, _cell_before(variants, name)) for name in names],
        folder,
        "scatter",
        height=3.1,
        columns=2,
        keys=keys,
    )
    caption = (
        "Confusion against knowledge; bars are one standard deviation over seeds. Up and right is better. "
        "The dashed line is the accuracy of the model before training, whose RPR is far to the left."
    )
    return Figure(name="scatter", title="RPR and accuracy (Fig. 4, 5)", caption=caption, panels=panels, keys=keys)


def _keys(variants: Variants) -> tuple[Key, ...]:
    """Return a colour and a marker per method; the model before training has the colour of text."""
    return tuple(
        Key(label=variant.label, color=INK) if variant.method == "none" else key(number, variant.label)
        for number, variant in enumerate(sorted(variants, key=lambda variant: variant.method == "none"))
    )


def _draw_scatter(shown: Variants, keys: Sequence[Key], name: str, before: Cell | None, place: Axes) -> None:
    by_label = {key.label: key for key in keys}
    _draw_line(place, before)
    for variant in shown:
        if name not in variant.cells:
            continue
        x, y, look = variant.cells["rpr"], variant.cells[name], by_label[variant.label]
        place.errorbar(
            100 * x.mean, 100 * y.mean, xerr=100 * x.half, yerr=100 * y.half, fmt=look.marker, ms=7.5,
            color=look.color, elinewidth=1.2,
        )  # fmt: skip
    place.grid(axis="x", alpha=0.14)
    place.set_xlabel("RPR, %")
    place.set_title(RATES[name])


def methods_beside_each_other(variants: Variants, folder: Path) -> Figure | None:
    """Draw a row per variant with its pass rate, kept foreign text and cost; None if no foreign text was asked for."""
    shown = [variant for variant in variants if "wanted" in variant.cells and not variant.axes]
    if len(shown) < 2:
        return None
    names = [name for name in ROWS if any(name in variant.cells for variant in shown)]
    panels = sheet(
        [partial(_draw_rows, shown, name) for name in names], folder, "methods", height=0.9 + 0.24 * len(shown),
        columns=2,
    )  # fmt: skip
    caption = (
        "Every method in a row; wanted foreign text is what a question asked for. Bars are one standard deviation "
        "over seeds; the dashed line is the untrained model with plain sampling."
    )
    return Figure(name="methods", title="What each method keeps, and what it costs", caption=caption, panels=panels)


def _draw_rows(shown: Variants, name: str, place: Axes) -> None:
    scale = 1 if name == "times_plain" else 100
    before = next((variant.cells.get(name) for variant in shown if variant.method == "none"), None)
    at = 1.0 if name == "times_plain" else scale * before.mean if before is not None else None
    if at is not None:
        place.axvline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for row, variant in enumerate(shown):
        if (cell := variant.cells.get(name)) is not None:
            place.errorbar(
                scale * cell.mean, row, xerr=scale * cell.half, fmt="o", color=BLUE, elinewidth=1.2, capsize=2.5
            )
    place.set_yticks(range(len(shown)), [variant.label for variant in shown])
    place.set_ylim(len(shown) - 0.4, -0.6)
    place.grid(axis="x", alpha=0.14)
    place.set_title(ROWS[name])


def advantages_and_selections(variants: Variants, folder: Path) -> Figure | None:
    """Draw every form of the advantage with every selection of candidates (Fig. 7); None with fewer than two."""
    cells = {
        (variant.axes["advantage"], variant.axes["selection"]): variant
        for variant in variants
        if {"advantage", "selection"} <= variant.axes.keys()
    }
    if len(cells) < 2:
        return None
    selections = list(dict.fromkeys(selection for _, selection in cells))
    keys = tuple(key(number, str(selection)) for number, selection in enumerate(selections))
    panels: list[Draw] = [
        partial(_draw_forms, cells, keys, name, _cell_before(variants, name)) for name in _rates(list(cells.values()))
    ]
    caption = (
        "How advantages are computed, and whether candidates are the most probable tokens or sampled ones. Bars are "
        "one standard deviation over seeds; the dashed line is the model before training."
    )
    return Figure(
        name="advantage-selection", title="Advantage and selection (Fig. 7)", caption=caption, keys=keys,
        panels=sheet(panels, folder, "advantage-selection", height=2.7, keys=keys),
    )  # fmt: skip


def _rates(variants: Variants) -> list[str]:
    return [name for name in RATES if any(name in variant.cells for variant in variants)]


def _cell_before(variants: Variants, name: str) -> Cell | None:
    """Return the model before training, if it belongs in a panel: its RPR would hide every difference."""
    if name != "accuracy":
        return None
    return next((variant.cells.get(name) for variant in variants if variant.method == "none"), None)


def _draw_forms(
    cells: Mapping[tuple[Axis, Axis], VariantSummary], keys: Sequence[Key], name: str, before: Cell | None, place: Axes
) -> None:
    forms = list(dict.fromkeys(form for form, _ in cells))
    for number, look in enumerate(keys):
        aside = 0.22 * (number - (len(keys) - 1) / 2)
        points = [
            (at + aside, cell)
            for at, form in enumerate(forms)
            if (form, look.label) in cells and (cell := cells[form, look.label].cells.get(name)) is not None
        ]
        _draw_points(place, points, look, line=False)
    _finish(place, [FORMS.get(str(form), str(form)) for form in forms], name, before)


def learning_rates(variants: Variants, folder: Path) -> Figure | None:
    """Draw each method over its learning rate (the paper's Fig. 4 and 5 as curves); None with fewer than two."""
    by_method: dict[str, list[VariantSummary]] = {}
    for variant in variants:
        if set(variant.axes) == {"lr"}:
            by_method.setdefault(variant.method, []).append(variant)
    if len(by_method) < 2:
        return None
    keys = tuple(key(number, method.upper()) for number, method in enumerate(by_method))
    rates = sorted({float(variant.axes["lr"]) for varied in by_method.values() for variant in varied})
    panels: list[Draw] = [
        partial(_draw_learning_rates, by_method, keys, rates, name, _cell_before(variants, name))
        for name in _rates([variant for varied in by_method.values() for variant in varied])
    ]
    return Figure(
        name="over-lr", title="Effect of the learning rate (Fig. 4, 5)", caption=SPREAD_CAPTION, keys=keys,
        panels=sheet(panels, folder, "over-lr", height=3.1, keys=keys),
    )  # fmt: skip


def _draw_learning_rates(
    by_method: Mapping[str, Variants], keys: Sequence[Key], rates: Sequence[float], name: str, before: Cell | None,
    place: Axes,
) -> None:  # fmt: skip
    for look, varied in zip(keys, by_method.values(), strict=True):
        points = [
            (float(rates.index(float(variant.axes["lr"]))), variant.cells[name])
            for variant in varied
            if name in variant.cells
        ]
        _draw_points(place, sorted(points, key=lambda point: point[0]), look, line=True)
    _finish(place, [f"{rate:g}" for rate in rates], name, before)
    place.set_xlabel("learning rate")


def single_settings(variants: Variants, folder: Path) -> Iterator[Figure]:
    """Draw RPR and accuracy over each numeric setting that was varied by itself, e.g. N (Fig. 9)."""
    by_axis: dict[str, list[VariantSummary]] = {}
    for variant in variants:
        if len(variant.axes) == 1:
            ((axis, value),) = variant.axes.items()
            if isinstance(value, int | float) and not isinstance(value, bool):
                by_axis.setdefault(axis, []).append(variant)
    for axis, varied in by_axis.items():
        if len(varied) > 2 and len({variant.method for variant in varied}) == 1:
            yield _single_setting(axis, sorted(varied, key=lambda variant: float(variant.axes[axis])), variants, folder)


def _single_setting(axis: str, varied: Variants, variants: Variants, folder: Path) -> Figure:
    name = "over-candidates" if axis == CANDIDATES_AXIS else f"over-{axis}"
    panels: list[Draw] = [
        partial(_draw_setting, axis, varied, rate, _cell_before(variants, rate)) for rate in _rates(varied)
    ]
    return Figure(
        name=name,
        title="Size of the candidate set (Fig. 9)" if axis == CANDIDATES_AXIS else f"Effect of {axis}",
        caption=SPREAD_CAPTION,
        panels=sheet(panels, folder, name, height=2.7),
    )


def _draw_setting(axis: str, varied: Variants, name: str, before: Cell | None, place: Axes) -> None:
    points = [(float(at), variant.cells[name]) for at, variant in enumerate(varied) if name in variant.cells]
    _draw_points(place, points, Key(label="", color=BLUE, marker="o"), line=True)
    _finish(place, [str(variant.axes[axis]) for variant in varied], name, before)
    place.set_xlabel("N" if axis == CANDIDATES_AXIS else axis)


def _draw_points(place: Axes, points: Sequence[tuple[float, Cell]], look: Key, *, line: bool) -> None:
    place.errorbar(
        [at for at, _ in points], [100 * cell.mean for _, cell in points],
        yerr=[100 * cell.half for _, cell in points], fmt=f"{look.marker}{'-' if line else ''}", color=look.color,
        elinewidth=1.2, capsize=2.5,
    )  # fmt: skip


def _finish(place: Axes, labels: Sequence[str], name: str, before: Cell | None) -> None:
    _draw_line(place, before)
    place.set_xticks(range(len(labels)), labels)
    place.set_xlim(-0.6, len(labels) - 0.4)
    place.set_title(RATES[name])


def _draw_line(place: Axes, before: Cell | None) -> None:
    """Draw a dashed line at the value of the model before training."""
    if before is not None:
        place.axhline(100 * before.mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))


def training_curves(variants: Variants, folder: Path) -> Figure | None:
    """Draw RPR, reward and length over training, by method (Fig. 10); None if no method sampled while training."""
    shown = [variant for variant in variants if any(variant.curves) and not variant.axes]
    if not shown:
        return None
    keys = _keys(shown)
    panels = sheet(
        [partial(_draw_curves, shown, keys, name, title) for name, title in CURVES.items()], folder, "over-training",
        height=2.7, keys=keys,
    )  # fmt: skip
    caption = (
        "Answers sampled while training, one line per seed. TLPO cuts an answer at its confusion point, so its length "
        "is that of clean answers; GRPO's is that of all answers."
    )
    return Figure(name="over-training", title="During training (Fig. 10)", caption=caption, panels=panels, keys=keys)


def _draw_curves(shown: Variants, keys: Sequence[Key], name: str, title: str, place: Axes) -> None:
    colors = {key.label: key.color for key in keys}
    for variant in shown:
        for curve in variant.curves:
            points = [(point["share"], point[name]) for point in curve if name in point]
            if points:
                thinned = thin_out(points, MAX_POINTS)
                place.plot(*zip(*thinned, strict=True), color=colors[variant.label], lw=1.4, alpha=0.8)
    place.set_title(title)
    place.set_xlabel("share of training")


def cost(variants: Variants, folder: Path) -> Figure | None:
    """Draw the wall time of training; None with fewer than two variants."""
    shown = [variant for variant in variants if "seconds" in variant.cells and not variant.axes]
    if len(shown) < 2:
        return None
    draw: Draw = partial(_draw_cost, [(variant.label, variant.cells["seconds"]) for variant in shown])
    return Figure(
        name="cost",
        title="Cost",
        caption="Wall time of sampling and training. Trials that ran at the same time slowed each other down.",
        panels=sheet([draw], folder, "cost", height=0.7 + 0.33 * len(shown), columns=1),
    )


def _draw_cost(cells: Sequence[tuple[str, Cell]], place: Axes) -> None:
    place.barh(
        range(len(cells)), [cell.mean for _, cell in cells], xerr=[cell.half for _, cell in cells], color=BLUE,
        height=0.6, error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
    )  # fmt: skip
    place.set_yticks(range(len(cells)), [label for label, _ in cells])
    place.invert_yaxis()
    place.grid(axis="y", visible=False)
    place.set_xlabel("seconds")
