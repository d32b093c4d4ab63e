"""Figures of an experiment, each drawn where its data is there; numbers are the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.style import BLUE, INK, ORANGE, PALETTE, figure, save
from tlpo_ray.report.summary import Cell, VariantSummary

Json = dict[str, Any]
FORMS = {"tlpo": "TLPO", "unweighted": "R - μ", "grpo": "GRPO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn figure with what it says."""

    name: str
    title: str
    caption: str
    svg: str


def figures(source: ExperimentSource, variants: Sequence[VariantSummary], folder: Path) -> list[Figure]:
    """All figures that the experiment's data allows, written into `folder` too."""
    draw: tuple[Callable[[], Figure | None], ...] = (
        lambda: scatter(variants, folder),
        lambda: forms_and_selection(variants, folder),
        lambda: one_axis(variants, folder),
        lambda: over_training(variants, folder),
        lambda: advantage(source.advantage, folder),
        lambda: shift(source.shift, folder),
        lambda: cost(variants, folder),
    )
    return [drawn for one in draw if (drawn := one()) is not None]


def scatter(variants: Sequence[VariantSummary], folder: Path) -> Figure | None:
    """RPR against accuracy (Fig. 4, 5)."""
    shown = [one for one in variants if {"rpr", "accuracy"} <= one.cells.keys()]
    if len(shown) < 3 or any(one.axes for one in shown):
        return None
    with figure(9.6, 3.6, 1, 2) as (drawn, axes):
        for place, name, label in zip(
            axes[0], ("accuracy", "accuracy_strict"), ("accuracy, %", "right and clean, %"), strict=True
        ):
            for number, one in enumerate(shown):
                x, y = one.cells["rpr"], one.cells.get(name)
                if y is None:
                    continue
                place.errorbar(
                    100 * x.mean, 100 * y.mean, xerr=100 * x.spread, yerr=100 * y.spread, fmt="o", ms=8,
                    color=PALETTE[number % len(PALETTE)] if one.method != "none" else INK, label=one.label,
                )  # fmt: skip
            place.set_xlabel("RPR, %")
            place.set_title(label)
        axes[0][0].legend(loc="best")
        svg = save(drawn, folder, "scatter")
    caption = (
        "Confusion left against knowledge kept; bars are one standard deviation over seeds. Up and right is better."
    )
    return Figure(name="scatter", title="RPR and accuracy (Fig. 4, 5)", caption=caption, svg=svg)


def forms_and_selection(variants: Sequence[VariantSummary], folder: Path) -> Figure | None:
    """Advantage form × selection (Fig. 7)."""
    cells = {
        (one.axes["advantage"], one.axes["selection"]): one
        for one in variants
        if {"advantage", "selection"} <= one.axes.keys()
    }
    if len(cells) < 2:
        return None
    forms, ways = list(dict.fromkeys(form for form, _ in cells)), list(dict.fromkeys(way for _, way in cells))
    with figure(9.6, 3.2, 1, 2) as (drawn, axes):
        for place, name, label in zip(axes[0], ("rpr", "accuracy"), ("RPR, %", "accuracy, %"), strict=True):
            for number, way in enumerate(ways):
                found = [cells[form, way].cells.get(name) if (form, way) in cells else None for form in forms]
                _bars(place, found, number, len(ways), PALETTE[number], way)
            place.set_xticks(range(len(forms)), [FORMS.get(form, form) for form in forms])
            place.set_title(label)
            _zoom(place, [one.cells[name] for one in cells.values() if name in one.cells])
        drawn.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=len(ways))
        svg = save(drawn, folder, "advantage-selection")
    caption = "How advantages are computed, and whether the most probable tokens are compared or drawn ones."
    return Figure(name="advantage-selection", title="Advantage and selection (Fig. 7)", caption=caption, svg=svg)


def one_axis(variants: Sequence[VariantSummary], folder: Path) -> Figure | None:
    """RPR and accuracy over one numeric setting, such as N (Fig. 9)."""
    varied = [
        one for one in variants if len(one.axes) == 1 and all(isinstance(v, int | float) for v in one.axes.values())
    ]
    if len(varied) < 3 or len({next(iter(one.axes)) for one in varied}) > 1:
        return None
    axis = next(iter(varied[0].axes))
    varied = sorted(varied, key=lambda one: float(one.axes[axis]))
    with figure(9.6, 3.0, 1, 3) as (drawn, axes):
        wanted = (("rpr", "RPR, %"), ("accuracy", "accuracy, %"), ("accuracy_strict", "right and clean, %"))
        for place, (name, label) in zip(axes[0], wanted, strict=True):
            points = [(one.axes[axis], one.cells[name]) for one in varied if name in one.cells]
            place.errorbar(
                range(len(points)), [100 * cell.mean for _, cell in points],
                yerr=[100 * cell.spread for _, cell in points], marker="o", color=BLUE, capsize=3,
            )  # fmt: skip
            place.set_xticks(range(len(points)), [str(value) for value, _ in points])
            place.set_xlabel("N" if axis == "candidates" else axis)
            place.set_title(label)
        svg = save(drawn, folder, f"over-{axis}")
    title = "Size of the candidate set (Fig. 9)" if axis == "candidates" else f"Over {axis}"
    return Figure(name=f"over-{axis}", title=title, caption="Mean over seeds, bars one standard deviation.", svg=svg)


def over_training(variants: Sequence[VariantSummary], folder: Path) -> Figure | None:
    """RPR, reward and length over training, by method (Fig. 10)."""
    shown = [one for one in variants if any(one.curves) and not one.axes]
    if not shown:
        return None
    with figure(9.6, 3.0, 1, 3) as (drawn, axes):
        wanted = (("rpr", "RPR of sampled answers"), ("reward", "mean reward"), ("length", "tokens of an answer"))
        for place, (name, label) in zip(axes[0], wanted, strict=True):
            for number, one in enumerate(shown):
                _curves(place, one, name, PALETTE[number % len(PALETTE)])
            place.set_title(label)
            place.set_xlabel("share of training")
        axes[0][0].legend(loc="lower right")
        svg = save(drawn, folder, "over-training")
    caption = (
        "Of the answers sampled while training, one line a seed. TLPO cuts answers at their confusion point, so its "
        "length is that of clean answers; GRPO's is of all."
    )
    return Figure(name="over-training", title="Over training (Fig. 10)", caption=caption, svg=svg)


def advantage(found: Json | None, folder: Path) -> Figure | None:
    """The advantage forms at one confusion point (Fig. 3)."""
    if found is None:
        return None
    candidates = found["candidates"]
    with figure(9.6, 3.0, 1, len(FORMS)) as (drawn, axes):
        for place, (form, label) in zip(axes[0], FORMS.items(), strict=True):
            colors = [BLUE if one["reward"] > 0 else ORANGE for one in candidates]
            place.bar(range(1, len(candidates) + 1), [one[form] for one in candidates], color=colors)
            place.axhline(0, color=INK, linewidth=0.8)
            place.set_title(label)
            place.set_xlabel("candidate, by probability")
        svg = save(drawn, folder, "advantage-forms")
    caption = (
        "Blue candidates stay in the language, orange ones lead to confusion. Weighted by probability (TLPO), the "
        "candidates that the policy would choose are moved; without weights, unlikely ones are moved as far."
    )
    return Figure(name="advantage-forms", title="Advantage at a confusion point (Fig. 3)", caption=caption, svg=svg)


def shift(found: Json | None, folder: Path) -> Figure | None:
    """Probability inside and beyond the candidate set, before and after (Fig. 6)."""
    if found is None:
        return None
    with figure(9.6, 3.2, 1, 2) as (drawn, axes):
        mass, ratio = axes[0]
        groups = found["groups"]
        for number, (when, color) in enumerate((("before", INK), ("after", BLUE))):
            places = [index + 0.38 * (number - 0.5) for index in range(len(groups))]
            mass.bar(places, [group[when] for group in groups], 0.36, color=color, alpha=0.85, label=when)
        mass.set_yscale("log")
        mass.set_xticks(range(len(groups)), [group["label"].replace(", ", "\n") for group in groups], fontsize=8)
        mass.set_title("probability at a confusion point")
        mass.legend()
        for confusing, color, label in ((True, ORANGE, "confusing"), (False, BLUE, "clean")):
            ranks = [one for one in found["by_rank"] if one["confusing"] == confusing and one["tokens"]]
            middle = [one["log_ratio_mean"] for one in ranks]
            low = [one["log_ratio_mean"] - one["log_ratio_low"] for one in ranks]
            ratio.errorbar(range(len(ranks)), middle, yerr=low, marker="o", color=color, label=label, capsize=3)
            ratio.set_xticks(range(len(ranks)), [f"{one['rank_from']}–{one['rank_to']}" for one in ranks])
        ratio.axvspan(-0.4, 0.5, color=INK, alpha=0.06)
        ratio.axhline(0, color=INK, linewidth=0.8)
        ratio.set_title("log probability, after - before")
        ratio.set_xlabel("rank before training (shaded: candidates)")
        ratio.legend(loc="center right")
        svg = save(drawn, folder, "shift")
    caption = f"At {found['contexts']} confusion points of answers of the policy before training; {_beyond(found)}"
    return Figure(name="shift", title="Beyond the candidate set (Fig. 6)", caption=caption, svg=svg)


def _beyond(found: Json) -> str:
    (group,) = [one for one in found["groups"] if one["confusing"] and not one["inside"]]
    moved = "lose" if group["after"] < group["before"] else "gain"
    return (
        f"confusing tokens beyond the top {found['n']}, which are no candidates there, {moved} probability: "
        f"{group['before']:.4f} before, {group['after']:.4f} after."
    )


def cost(variants: Sequence[VariantSummary], folder: Path) -> Figure | None:
    """Wall time of training."""
    shown = [one for one in variants if "seconds" in one.cells and not one.axes]
    if len(shown) < 2:
        return None
    with figure(9.6, 0.5 + 0.4 * len(shown)) as (drawn, axes):
        place = axes[0][0]
        values = [one.cells["seconds"] for one in shown]
        place.barh(range(len(shown)), [cell.mean for cell in values], xerr=[cell.spread for cell in values], color=BLUE)
        place.set_yticks(range(len(shown)), [one.label for one in shown])
        place.invert_yaxis()
        place.set_xlabel("seconds")
        svg = save(drawn, folder, "cost")
    caption = "Wall time of sampling and training on one CPU, others at work beside it: no more than a hint."
    return Figure(name="cost", title="Cost", caption=caption, svg=svg)


def _bars(place: Any, cells: Sequence[Cell | None], number: int, of: int, color: str, label: str) -> None:
    width = 0.8 / of
    at = [index + (number - (of - 1) / 2) * width for index in range(len(cells))]
    means = [100 * cell.mean if cell else 0.0 for cell in cells]
    spreads = [100 * cell.spread if cell else 0.0 for cell in cells]
    place.bar(at, means, width * 0.92, yerr=spreads, color=color, label=label, capsize=3)


def _zoom(place: Any, cells: Sequence[Cell]) -> None:
    """Bars that differ by little: the axis begins just below the lowest."""
    lowest = min(100 * (cell.mean - cell.spread) for cell in cells)
    highest = max(100 * (cell.mean + cell.spread) for cell in cells)
    room = max(0.2, highest - lowest)
    place.set_ylim(max(0.0, lowest - room), min(100.0, highest + 0.3 * room))


def _curves(place: Any, variant: VariantSummary, name: str, color: str) -> None:
    label: str | None = variant.label
    for curve in variant.curves:
        points = [(point["share"], point[name]) for point in curve if name in point]
        if points:
            place.plot(*zip(*_smoothed(points), strict=True), color=color, alpha=0.75, linewidth=1.4, label=label)
            label = None


def _smoothed(points: Sequence[tuple[float, float]], most: int = 40) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its stretch."""
    stride = max(1, -(-len(points) // most))
    lots = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [(sum(x for x, _ in lot) / len(lot), sum(y for _, y in lot) / len(lot)) for lot in lots]


def table_of(figure_data: Mapping[str, Any] | None) -> str:
    """Markdown of Fig. 6's numbers; empty without them."""
    if figure_data is None:
        return ""
    lines = ["| tokens | before | after | after / before |", "|---|---|---|---|"]
    for group in figure_data["groups"]:
        ratio = f"{group['ratio']:.2f}" if group["ratio"] is not None else ""
        lines.append(f"| {group['label']} | {group['before']:.4f} | {group['after']:.4f} | {ratio} |")
    return "\n".join(lines) + "\n"
