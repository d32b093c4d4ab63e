"""Trials of an experiment as variants: means and spreads, what is best, and where TLPO is beaten."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Direction = Literal[1, -1, 0]
OURS, BEFORE = "tlpo", "baseline"
"""Names of the variants that the verdict is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric as it is shown."""

    name: str
    heading: str
    unit: Literal["share", "nats", "number", "seconds"]
    better: Direction
    """1: more is better; -1: less; 0: neither."""
    meaning: str = ""


COLUMNS = (
    Column(name="rpr", heading="RPR", unit="share", better=1, meaning="answers without a foreign word"),
    Column(name="wpr", heading="WPR", unit="share", better=1, meaning="words without confusion"),
    Column(name="rpr_unasked", heading="RPR, never asked", unit="share", better=1,
           meaning="the same question about territories that the run never asked about"),
    Column(name="accuracy", heading="accuracy", unit="share", better=1,
           meaning="right value in whatever language, over all questions: what the model knows"),
    Column(name="accuracy_strict", heading="right and clean", unit="share", better=1,
           meaning="right value, in the question's language, without a foreign word: what a user gets"),
    Column(name="accuracy_asked", heading="asked", unit="share", better=1, meaning="… questions of the run"),
    Column(name="accuracy_unasked", heading="never asked", unit="share", better=1, meaning="… about other territories"),
    Column(name="accuracy_other_topic", heading="other topic", unit="share", better=1, meaning="… on another topic"),
    Column(name="accuracy_other_language", heading="other languages", unit="share", better=1,
           meaning="… in the languages that answers slip into"),
    Column(name="accuracy_english", heading="English", unit="share", better=1, meaning="… in English"),
    Column(name="kl_clean", heading="KL clean", unit="nats", better=-1,
           meaning="KL to the model before on right answers, nats a token"),
    Column(name="length", heading="length", unit="number", better=0, meaning="characters of an answer"),
    Column(name="seconds", heading="seconds", unit="seconds", better=-1, meaning="wall time of training, one CPU"),
)  # fmt: skip
MARGIN = {"share": 0.0005, "nats": 0.00005, "number": 0.05, "seconds": 0.5}
"""Differences of means below these do not show in the table and are no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A metric of a variant over its seeds."""

    mean: float
    spread: float
    """Sample standard deviation; 0 with one seed."""
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSummary:
    """All seeds of one variant."""

    name: str
    label: str
    method: str
    axes: Mapping[str, Any]
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]
    curves: tuple[Sequence[Mapping[str, float]], ...]
    """Of each seed."""


def shown_columns(variants: Sequence[VariantSummary]) -> list[Column]:
    """Known metrics first, in their order, then any others."""
    names = {name for variant in variants for name in variant.cells}
    known = [column for column in COLUMNS if column.name in names]
    others = sorted(names - {column.name for column in COLUMNS} - {"rpr_asked", "kl_elsewhere"})
    return known + [Column(name=name, heading=name, unit="number", better=0) for name in others]


def summarised(rows: Sequence[Json]) -> list[VariantSummary]:
    """Variants in the order of their first trial, the best of every metric marked among those that were trained."""
    by_variant: dict[str, list[Json]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    cells = {name: _cells(found) for name, found in by_variant.items()}
    trained = [name for name, found in by_variant.items() if found[0]["method"] != "none"]
    for column in COLUMNS:
        _mark_best({name: cells[name] for name in trained if column.name in cells[name]}, column)
    return [
        VariantSummary(
            name=name,
            label=found[0]["label"],
            method=found[0]["method"],
            axes=found[0].get("axes", {}),
            seeds=tuple(row["seed"] for row in found),
            cells=cells[name],
            curves=tuple(row.get("curve", ()) for row in found),
        )
        for name, found in by_variant.items()
    ]


def _cells(rows: Sequence[Json]) -> dict[str, Cell]:
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    cells: dict[str, Cell] = {}
    for name in names:
        values = [float(row["metrics"][name]) for row in rows if row["metrics"].get(name) is not None]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells[name] = Cell(mean=statistics.fmean(values), spread=spread)
    return cells


def _mark_best(cells: Mapping[str, dict[str, Cell]], column: Column) -> None:
    if column.better == 0 or len(cells) < 2:
        return
    best = max(column.better * found[column.name].mean for found in cells.values())
    for found in cells.values():
        cell = found[column.name]
        if column.better * cell.mean >= best - MARGIN[column.unit]:
            found[column.name] = Cell(mean=cell.mean, spread=cell.spread, best=True)


def verdict(variants: Sequence[VariantSummary]) -> str:
    """Where TLPO stands, in sentences; empty where there is nothing to compare it with."""
    named = {variant.name: variant for variant in variants}
    ours, before = named.get(OURS), named.get(BEFORE)
    others = [one for one in variants if one.method != "none" and one.name != OURS]
    if ours is None or not others:
        return ""
    sentences = [_first(ours, others), *([_kept(ours, before)] if before is not None else []), _beaten(ours, others)]
    return " ".join(filter(None, sentences))


def _first(ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    if "rpr" not in ours.cells:
        return ""
    rival = max((one for one in others if "rpr" in one.cells), key=lambda one: one.cells["rpr"].mean, default=None)
    if rival is None:
        return ""
    mine, theirs = ours.cells["rpr"], rival.cells["rpr"]
    if abs(mine.mean - theirs.mean) <= MARGIN["share"]:
        return f"{ours.label} and {rival.label} have the best RPR, {mine.mean:.1%} each."
    if mine.mean > theirs.mean:
        return f"{ours.label} has the best RPR, {_shown(mine)}; next comes {rival.label} with {_shown(theirs)}."
    return f"{ours.label} does not have the best RPR: {_shown(mine)}, {rival.label} has {_shown(theirs)}."


def _kept(ours: VariantSummary, before: VariantSummary) -> str:
    if "accuracy" not in ours.cells or "accuracy" not in before.cells:
        return ""
    mine, was = ours.cells["accuracy"].mean, before.cells["accuracy"].mean
    if mine >= was - MARGIN["share"]:
        return f"Its accuracy is {mine:.2%}, no worse than the {was:.2%} before training."
    return f"Its accuracy is {mine:.2%}: worse than the {was:.2%} before training."


def _beaten(ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    beaten: list[str] = []
    for column in COLUMNS:
        if column.better == 0 or column.name not in ours.cells:
            continue
        mine = column.better * ours.cells[column.name].mean + MARGIN[column.unit]
        ahead = [
            one for one in others if column.name in one.cells and column.better * one.cells[column.name].mean > mine
        ]
        if ahead:
            beaten.append(f"{column.heading} ({', '.join(one.label for one in ahead)})")
    return f"It is beaten on: {'; '.join(beaten)}." if beaten else f"No other method beats {ours.label} on any column."


def _shown(cell: Cell) -> str:
    return f"{cell.mean:.1%} ± {cell.spread:.1%}"


def formatted(cell: Cell | None, column: Column) -> str:
    """A cell as a table shows it: mean ± spread."""
    if cell is None:
        return ""
    match column.unit:
        case "share":
            return f"{100 * cell.mean:.2f} ± {100 * cell.spread:.2f}"
        case "nats":
            return f"{cell.mean:.4f} ± {cell.spread:.4f}"
        case "seconds":
            return f"{cell.mean:.0f} ± {cell.spread:.0f}"
        case "number":
            return f"{cell.mean:.4g} ± {cell.spread:.2g}"


def markdown_table(variants: Sequence[VariantSummary]) -> str:
    """The comparison as a Markdown table; shares in percent."""
    columns = shown_columns(variants)
    heads = ["", *(column.heading + (", %" if column.unit == "share" else "") for column in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for variant in variants:
        cells = [_marked(variant.cells.get(column.name), column) for column in columns]
        lines.append("| " + " | ".join([variant.label.replace("|", r"\|"), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _marked(cell: Cell | None, column: Column) -> str:
    text = formatted(cell, column)
    return f"**{text}**" if cell is not None and cell.best else text
