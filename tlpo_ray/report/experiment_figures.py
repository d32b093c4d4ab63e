"""Figures of an experiment, each drawn where its data is there; numbers are the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tlpo_ray.report.figure import Figure
from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.style import BLUE, INK, Draw, Key, key, sheet, thinned
from tlpo_ray.report.summary import Cell, VariantSummary

Variants = Sequence[VariantSummary]
FORMS = {"tlpo": "TLPO", "unweighted": "R − μ", "grpo": "GRPO"}
RATES = {"rpr": "RPR, %", "accuracy": "accuracy, %", "accuracy_strict": "right and clean, %"}
MOST_POINTS = 40
"""Of a curve over training: more is noise."""


def figures(source: ExperimentSource, variants: Variants, folder: Path) -> list[Figure]:
    """All figures that the experiment's data allows but those of `probed_figures`, written into `folder` too."""
    draw: tuple[Callable[[Variants, Path], Figure | None], ...] = (
        scatter, over_learning_rate, forms_and_selection, over_training, cost,
    )  # fmt: skip
    found = (one(variants, folder) for one in draw)
    return [drawn for drawn in (*found, *one_setting(variants, folder)) if drawn is not None]


def scatter(variants: Variants, folder: Path) -> Figure | None:
    """RPR against accuracy (Fig. 4, 5)."""
    shown = [one for one in variants if {"rpr", "accuracy"} <= one.cells.keys() and not one.axes]
    shown = [one for one in shown if one.method != "none"]
    if len(shown) < 2:
        return None
    names = [name for name in ("accuracy", "accuracy_strict") if any(name in one.cells for one in shown)]
    keys = _keys(shown)
    panels = sheet(
        [partial(_scattered, shown, keys, name, _before(variants, name)) for name in names],
        folder,
        "scatter",
        height=3.1,
        across=2,
        keys=keys,
    )
    caption = (
        "Confusion left against knowledge kept; bars are one standard deviation over seeds. Up and right is better. "
        "The dashed line is the accuracy of the model before, whose RPR is far to the left."
    )
    return Figure(name="scatter", title="RPR and accuracy (Fig. 4, 5)", caption=caption, panels=panels, keys=keys)


def _keys(variants: Variants) -> tuple[Key, ...]:
    """A colour and a marker a method; the model before is in the colour of text."""
    return tuple(
        Key(label=one.label, color=INK) if one.method == "none" else key(number, one.label)
        for number, one in enumerate(sorted(variants, key=lambda one: one.method == "none"))
    )


def _scattered(shown: Variants, keys: Sequence[Key], name: str, before: Cell | None, place: Any) -> None:
    by_label = {one.label: one for one in keys}
    _line(place, before)
    for one in shown:
        if name not in one.cells:
            continue
        x, y, look = one.cells["rpr"], one.cells[name], by_label[one.label]
        place.errorbar(
            100 * x.mean, 100 * y.mean, xerr=100 * x.half, yerr=100 * y.half, fmt=look.marker, ms=7.5,
            color=look.color, elinewidth=1.2,
        )  # fmt: skip
    place.grid(axis="x", alpha=0.14)
    place.set_xlabel("RPR, %")
    place.set_title(RATES[name])


def forms_and_selection(variants: Variants, folder: Path) -> Figure | None:
    """Advantage form × selection (Fig. 7)."""
    cells = {
        (one.axes["advantage"], one.axes["selection"]): one
        for one in variants
        if {"advantage", "selection"} <= one.axes.keys()
    }
    if len(cells) < 2:
        return None
    ways = list(dict.fromkeys(way for _, way in cells))
    keys = tuple(key(number, str(way)) for number, way in enumerate(ways))
    draw = [partial(_forms, cells, keys, name, _before(variants, name)) for name in _rates(list(cells.values()))]
    caption = (
        "How advantages are computed, and whether the most probable tokens are candidates or drawn ones. Bars are one "
        "standard deviation over seeds; the dashed line is the model before."
    )
    return Figure(
        name="advantage-selection", title="Advantage and selection (Fig. 7)", caption=caption, keys=keys,
        panels=sheet(draw, folder, "advantage-selection", height=2.7, keys=keys),
    )  # fmt: skip


def _rates(variants: Variants) -> list[str]:
    return [name for name in RATES if any(name in one.cells for one in variants)]


def _before(variants: Variants, name: str) -> Cell | None:
    """The model before, where it may stand in a panel: its RPR would hide every difference."""
    return next((one.cells.get(name) for one in variants if one.method == "none"), None) if name == "accuracy" else None


def _forms(
    cells: Mapping[tuple[Any, Any], VariantSummary], keys: Sequence[Key], name: str, before: Cell | None, place: Any
) -> None:
    forms = list(dict.fromkeys(form for form, _ in cells))
    for number, look in enumerate(keys):
        found = [(at, cells[form, look.label].cells.get(name)) for at, form in enumerate(forms)
                 if (form, look.label) in cells]  # fmt: skip
        aside = 0.22 * (number - (len(keys) - 1) / 2)
        _points(place, [(at + aside, cell) for at, cell in found if cell is not None], look, line=False)
    _finish(place, forms, [FORMS.get(str(form), str(form)) for form in forms], name, before)


def over_learning_rate(variants: Variants, folder: Path) -> Figure | None:
    """How hard each method can be pushed (the paper's Fig. 4 and 5 as curves)."""
    by_method: dict[str, list[VariantSummary]] = {}
    for one in variants:
        if set(one.axes) == {"lr"}:
            by_method.setdefault(one.method, []).append(one)
    if len(by_method) < 2:
        return None
    keys = tuple(key(number, method.upper()) for number, method in enumerate(by_method))
    rates = sorted({float(one.axes["lr"]) for found in by_method.values() for one in found})
    draw = [
        partial(_pushed, by_method, keys, rates, name, _before(variants, name))
        for name in _rates([one for found in by_method.values() for one in found])
    ]
    return Figure(
        name="over-lr", title="How hard a method can be pushed (Fig. 4, 5)", keys=keys,
        caption="Mean over seeds, bars one standard deviation; the dashed line is the model before.",
        panels=sheet(draw, folder, "over-lr", height=3.1, keys=keys),
    )  # fmt: skip


def _pushed(
    by_method: Mapping[str, Variants], keys: Sequence[Key], rates: Sequence[float], name: str, before: Cell | None,
    place: Any,
) -> None:  # fmt: skip
    for look, found in zip(keys, by_method.values(), strict=True):
        points = [(float(rates.index(float(one.axes["lr"]))), one.cells[name]) for one in found if name in one.cells]
        _points(place, sorted(points, key=lambda point: point[0]), look, line=True)
    _finish(place, rates, [f"{rate:g}" for rate in rates], name, before)
    place.set_xlabel("learning rate")


def one_setting(variants: Variants, folder: Path) -> Iterator[Figure]:
    """RPR and accuracy over each numeric setting that was varied by itself, such as N (Fig. 9)."""
    by_axis: dict[str, list[VariantSummary]] = {}
    for one in variants:
        if len(one.axes) == 1:
            ((axis, value),) = one.axes.items()
            if isinstance(value, int | float) and not isinstance(value, bool):
                by_axis.setdefault(axis, []).append(one)
    for axis, found in by_axis.items():
        if len(found) > 2 and len({one.method for one in found}) == 1:
            yield _over_setting(axis, sorted(found, key=lambda one: float(one.axes[axis])), variants, folder)


def _over_setting(axis: str, varied: Variants, variants: Variants, folder: Path) -> Figure:
    draw = [partial(_setting, axis, varied, name, _before(variants, name)) for name in _rates(varied)]
    return Figure(
        name=f"over-{axis}",
        title="Size of the candidate set (Fig. 9)" if axis == "candidates" else f"Over {axis}",
        caption="Mean over seeds, bars one standard deviation; the dashed line is the model before.",
        panels=sheet(draw, folder, f"over-{axis}", height=2.7),
    )


def _setting(axis: str, varied: Variants, name: str, before: Cell | None, place: Any) -> None:
    points = [(float(at), one.cells[name]) for at, one in enumerate(varied) if name in one.cells]
    _points(place, points, Key(label="", color=BLUE, marker="o"), line=True)
    _finish(place, range(len(varied)), [str(one.axes[axis]) for one in varied], name, before)
    place.set_xlabel("N" if axis == "candidates" else axis)


def _points(place: Any, points: Sequence[tuple[float, Cell]], look: Key, *, line: bool) -> None:
    place.errorbar(
        [at for at, _ in points], [100 * cell.mean for _, cell in points],
        yerr=[100 * cell.half for _, cell in points], fmt=f"{look.marker}{'-' if line else ''}", color=look.color,
        elinewidth=1.2, capsize=2.5,
    )  # fmt: skip


def _finish(place: Any, at: Sequence[Any], labels: Sequence[str], name: str, before: Cell | None) -> None:
    _line(place, before)
    place.set_xticks(range(len(at)), labels)
    place.set_xlim(-0.6, len(at) - 0.4)
    place.set_title(RATES[name])


def _line(place: Any, before: Cell | None) -> None:
    """What the model before has."""
    if before is not None:
        place.axhline(100 * before.mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))


def over_training(variants: Variants, folder: Path) -> Figure | None:
    """RPR, reward and length over training, by method (Fig. 10)."""
    shown = [one for one in variants if any(one.curves) and not one.axes]
    if not shown:
        return None
    keys = _keys(shown)
    wanted = {"rpr": "RPR of sampled answers", "reward": "mean reward", "length": "tokens of an answer"}
    panels = sheet(
        [partial(_curves, shown, keys, name, title) for name, title in wanted.items()], folder, "over-training",
        height=2.7, keys=keys,
    )  # fmt: skip
    caption = (
        "Of the answers sampled while training, one line a seed. TLPO cuts an answer at its confusion point, so its "
        "length is that of clean answers; GRPO's is of all."
    )
    return Figure(name="over-training", title="Over training (Fig. 10)", caption=caption, panels=panels, keys=keys)


def _curves(shown: Variants, keys: Sequence[Key], name: str, title: str, place: Any) -> None:
    colors = {one.label: one.color for one in keys}
    for one in shown:
        for curve in one.curves:
            points = [(point["share"], point[name]) for point in curve if name in point]
            if points:
                place.plot(*zip(*thinned(points, MOST_POINTS), strict=True), color=colors[one.label], lw=1.4, alpha=0.8)
    place.set_title(title)
    place.set_xlabel("share of training")


def cost(variants: Variants, folder: Path) -> Figure | None:
    """Wall time of training."""
    shown = [one for one in variants if "seconds" in one.cells and not one.axes]
    if len(shown) < 2:
        return None
    draw: Draw = partial(_cost, [(one.label, one.cells["seconds"]) for one in shown])
    return Figure(
        name="cost",
        title="Cost",
        caption="Wall time of sampling and training. Trials that ran beside each other slow each other down.",
        panels=sheet([draw], folder, "cost", height=0.7 + 0.33 * len(shown), across=1),
    )


def _cost(cells: Sequence[tuple[str, Cell]], place: Any) -> None:
    place.barh(
        range(len(cells)), [cell.mean for _, cell in cells], xerr=[cell.half for _, cell in cells], color=BLUE,
        height=0.6, error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
    )  # fmt: skip
    place.set_yticks(range(len(cells)), [label for label, _ in cells])
    place.invert_yaxis()
    place.grid(axis="y", visible=False)
    place.set_xlabel("seconds")
