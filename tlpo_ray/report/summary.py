"""Trials of an experiment as variants: means and spreads, what is best, and the table of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Json = dict[str, Any]
Direction = Literal[1, -1, 0]


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
    Column(name="accuracy_asked", heading="asked", unit="share", better=1,
           meaning="right and clean, to questions that the run asked"),
    Column(name="accuracy_unasked", heading="never asked", unit="share", better=1,
           meaning="right and clean, about territories that it never asked about"),
    Column(name="accuracy_other_topic", heading="other topic", unit="share", better=1,
           meaning="right and clean, on another topic"),
    Column(name="accuracy_other_language", heading="other languages", unit="share", better=1,
           meaning="right and clean, in the languages that answers slip into"),
    Column(name="accuracy_english", heading="English", unit="share", better=1, meaning="right and clean, in English"),
    Column(name="kl_clean", heading="KL clean", unit="nats", better=-1,
           meaning="KL to the model before on right answers, nats a token"),
    Column(name="length", heading="length", unit="number", better=0, meaning="characters of an answer"),
    Column(name="seconds", heading="seconds", unit="seconds", better=-1, meaning="wall time of sampling and training"),
)  # fmt: skip
UNSHOWN = {"rpr_asked", "kl_elsewhere"}
"""Metrics that other columns cover: in the results, not in the table."""
MARGIN = {"share": 0.0005, "nats": 0.00005, "number": 0.05, "seconds": 0.5}
"""Differences of means below these do not show in the table and are no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A metric of a variant over its seeds."""

    mean: float
    spread: float | None
    """Sample standard deviation; None with one seed."""
    seeds: int
    """That have this metric."""
    best: bool = False
    """Of those that were trained, where they differ at all."""

    @property
    def half(self) -> float:
        """The spread as an error bar."""
        return self.spread or 0.0


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
    others = sorted(names - {column.name for column in COLUMNS} - UNSHOWN)
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
        found = [row["metrics"].get(name) for row in rows]
        values = [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            cells[name] = Cell(mean=statistics.fmean(values), spread=spread, seeds=len(values))
    return cells


def _mark_best(cells: Mapping[str, dict[str, Cell]], column: Column) -> None:
    if column.better == 0:
        return
    means = {name: column.better * found[column.name].mean for name, found in cells.items()}
    best = {name for name, mean in means.items() if mean >= max(means.values()) - MARGIN[column.unit]}
    if len(best) == len(cells):
        return
    for name in best:
        cells[name][column.name] = replace(cells[name][column.name], best=True)


def formatted(cell: Cell, column: Column) -> tuple[str, str]:
    """Mean and spread as a table shows them; no spread where there is one seed."""
    match column.unit:
        case "share":
            shown = [f"{100 * value:.2f}" for value in (cell.mean, cell.half)]
        case "nats":
            shown = [f"{value:.4f}" for value in (cell.mean, cell.half)]
        case "seconds":
            shown = [f"{value:.0f}" for value in (cell.mean, cell.half)]
        case "number":
            shown = [f"{cell.mean:.4g}", f"{cell.half:.2g}"]
    return shown[0], f"± {shown[1]}" if cell.spread is not None else ""


def written(cell: Cell | None, column: Column, seeds: int) -> str:
    """A cell in one string, with how many of the variant's `seeds` it is of where it is not all of them."""
    if cell is None:
        return ""
    some = f"({cell.seeds} of {seeds} seeds)" if cell.seeds < seeds else ""
    return " ".join(filter(None, (*formatted(cell, column), some)))


def markdown_table(variants: Sequence[VariantSummary]) -> str:
    """The comparison as a Markdown table; shares in percent."""
    columns = shown_columns(variants)
    heads = ["", *(column.heading + (", %" if column.unit == "share" else "") for column in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for variant in variants:
        cells = [_marked(variant, column) for column in columns]
        lines.append("| " + " | ".join([variant.label.replace("|", r"\|"), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _marked(variant: VariantSummary, column: Column) -> str:
    cell = variant.cells.get(column.name)
    text = written(cell, column, len(variant.seeds))
    return f"**{text}**" if cell is not None and cell.best else text
