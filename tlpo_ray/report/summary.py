"""Summarises the trials of an experiment by variant: means and spreads, what is best, and the table of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tlpo_ray.config.decoding import METHODS

Json = dict[str, Any]
Axis = str | int | float | bool
"""Value of a setting that an experiment varies."""
Direction = Literal[1, -1, 0]
CANDIDATES_AXIS = "num_candidates"
RENAMED_AXES = {"candidates": CANDIDATES_AXIS}
"""Old name of an axis → name of today, for results of earlier releases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric as a column of the table.

    Example: ``Column(name="rpr", heading="RPR", unit="share", better=1, meaning="answers without a foreign word")``
    """

    name: str
    heading: str
    unit: Literal["share", "nats", "number", "ratio", "seconds", "count"]
    better: Direction
    """1: higher is better; -1: lower is better; 0: neither."""
    meaning: str = ""


COLUMNS = (
    Column(name="rpr", heading="RPR", unit="share", better=1, meaning="answers without a foreign word"),
    Column(name="wpr", heading="WPR", unit="share", better=1, meaning="words without confusion"),
    Column(name="rpr_unasked", heading="RPR, never asked", unit="share", better=1,
           meaning="RPR on questions about territories that the run never asked about"),
    Column(name="accuracy", heading="accuracy", unit="share", better=1,
           meaning="right value in any language, over all questions: what the model knows"),
    Column(name="accuracy_strict", heading="right and clean", unit="share", better=1,
           meaning="right value, in the question's language, without a foreign word: what a user gets"),
    Column(name="accuracy_asked", heading="asked", unit="share", better=1,
           meaning="right and clean, for questions that the run asked"),
    Column(name="accuracy_unasked", heading="never asked", unit="share", better=1,
           meaning="right and clean, about territories that the run never asked about"),
    Column(name="accuracy_other_topic", heading="other topic", unit="share", better=1,
           meaning="right and clean, on another topic"),
    Column(name="accuracy_other_language", heading="other languages", unit="share", better=1,
           meaning="right and clean, in the languages that wrongly appear in answers"),
    Column(name="accuracy_english", heading="English", unit="share", better=1, meaning="right and clean, in English"),
    Column(name="wanted", heading="wanted", unit="share", better=1,
           meaning="answers with the foreign text that was asked for, e.g. a name in another language"),
    Column(name="kl_clean", heading="KL clean", unit="nats", better=-1,
           meaning="KL to the model before training on right answers, nats per token"),
    Column(name="perplexity", heading="perplexity", unit="ratio", better=-1,
           meaning="perplexity per token of given answers or texts, geometric mean over languages"),
    Column(name="length", heading="length", unit="number", better=0, meaning="characters per answer"),
    Column(name="interventions", heading="interventions", unit="number", better=0,
           meaning="per 1,000 tokens: how often decoding changed which token is the most probable, or took one back"),
    Column(name="times_plain", heading="× plain", unit="ratio", better=-1,
           meaning="time per token of decoding, relative to plain sampling in the same process"),
    Column(name="ms_per_token", heading="ms/token", unit="ratio", better=-1, meaning="milliseconds per answer token"),
    Column(name="seconds", heading="seconds", unit="seconds", better=-1, meaning="wall time of sampling and training"),
    Column(name="tokens", heading="tokens sampled", unit="count", better=-1,
           meaning="tokens that were sampled for training"),
)  # fmt: skip
"""Known metrics in the order of the table."""
HIDDEN = {"rpr_asked", "kl_elsewhere"}
"""Metrics that other columns cover; they are in the results, but not in the table."""
OF_WEIGHTS = {"kl_clean", "kl_elsewhere", "perplexity"}
"""Metrics of a model's weights, which say nothing about a decoding method."""
MARGIN = {"share": 0.0005, "nats": 0.00005, "number": 0.05, "ratio": 0.005, "seconds": 0.5, "count": 0.5}
"""Unit → difference of two means that the table does not show, and that therefore does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A metric of a variant over its seeds.

    Example: ``Cell(mean=0.988, spread=0.002, seeds=3, best=True)``
    """

    mean: float
    spread: float | None
    """Sample standard deviation; None with one seed."""
    seeds: int
    """Number of seeds that have this metric."""
    best: bool = False
    """Whether it is the best of the trained variants; False if all are equal."""

    @property
    def half(self) -> float:
        """Half the length of an error bar: the spread, 0 with one seed."""
        return self.spread or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSummary:
    """All seeds of one variant."""

    name: str
    label: str
    method: str
    axes: Mapping[str, Axis]
    """Settings that the variant varies."""
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]
    """Metric → its cell."""
    curves: tuple[Sequence[Mapping[str, float]], ...]
    """Curve over training of each seed."""


def shown_columns(variants: Sequence[VariantSummary]) -> list[Column]:
    """Return the known metrics in their order, then any others."""
    names = {name for variant in variants for name in variant.cells}
    known = [column for column in COLUMNS if column.name in names]
    others = sorted(names - {column.name for column in COLUMNS} - HIDDEN)
    return known + [Column(name=name, heading=name, unit="number", better=0) for name in others]


def summarise_variants(rows: Sequence[Json]) -> list[VariantSummary]:
    """Return the variants in the order of their first trial, with the best of every metric marked.

    The model before training is never marked.

    Args:
        rows: Lines of `results.jsonl`.
    """
    by_variant: dict[str, list[Json]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    cells = {name: _cells(trials) for name, trials in by_variant.items()}
    trained = [name for name, trials in by_variant.items() if trials[0]["method"] != "none"]
    for column in COLUMNS:
        _mark_best({name: cells[name] for name in trained if column.name in cells[name]}, column)
    return [
        VariantSummary(
            name=name,
            label=trials[0]["label"],
            method=trials[0]["method"],
            axes={RENAMED_AXES.get(axis, axis): value for axis, value in trials[0].get("axes", {}).items()},
            seeds=tuple(trial["seed"] for trial in trials),
            cells=cells[name],
            curves=tuple(trial.get("curve", ()) for trial in trials),
        )
        for name, trials in by_variant.items()
    ]


def _cells(trials: Sequence[Json]) -> dict[str, Cell]:
    names = dict.fromkeys(name for trial in trials for name in trial["metrics"])
    if trials[0]["method"] in METHODS:
        names = dict.fromkeys(name for name in names if name not in OF_WEIGHTS)
    cells: dict[str, Cell] = {}
    for name in names:
        recorded = [trial["metrics"].get(name) for trial in trials]
        values = [float(value) for value in recorded if isinstance(value, int | float) and math.isfinite(value)]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            cells[name] = Cell(mean=statistics.fmean(values), spread=spread, seeds=len(values))
    return cells


def _mark_best(cells: Mapping[str, dict[str, Cell]], column: Column) -> None:
    if column.better == 0:
        return
    means = {name: column.better * metrics[column.name].mean for name, metrics in cells.items()}
    best = {name for name, mean in means.items() if mean >= max(means.values()) - MARGIN[column.unit]}
    if len(best) == len(cells):
        return
    for name in best:
        cells[name][column.name] = replace(cells[name][column.name], best=True)


def format_cell(cell: Cell, column: Column) -> tuple[str, str]:
    """Return mean and spread as the table shows them; the spread is empty with one seed."""
    match column.unit:
        case "share":
            numbers = [f"{100 * value:.2f}" for value in (cell.mean, cell.half)]
        case "nats":
            numbers = [f"{value:.4f}" for value in (cell.mean, cell.half)]
        case "count":
            numbers = [f"{value:,.0f}" for value in (cell.mean, cell.half)]
        case "seconds":
            numbers = [f"{value:.0f}" for value in (cell.mean, cell.half)]
        case "ratio":
            numbers = [f"{value:.2f}" for value in (cell.mean, cell.half)]
        case "number":
            numbers = [f"{cell.mean:.4g}", f"{cell.half:.2g}"]
    return numbers[0], f"± {numbers[1]}" if cell.spread is not None else ""


def cell_text(cell: Cell | None, column: Column, seeds: int) -> str:
    """Return a cell as one string, with the number of seeds that it covers unless it covers all of the variant's."""
    if cell is None:
        return ""
    coverage = f"({cell.seeds} of {seeds} seeds)" if cell.seeds < seeds else ""
    return " ".join(filter(None, (*format_cell(cell, column), coverage)))


def markdown_table(variants: Sequence[VariantSummary]) -> str:
    """Return the comparison as a Markdown table; shares are in percent, the best are bold."""
    columns = shown_columns(variants)
    heads = ["", *(column.heading + (", %" if column.unit == "share" else "") for column in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for variant in variants:
        cells = [_markdown_cell(variant, column) for column in columns]
        lines.append("| " + " | ".join([variant.label.replace("|", r"\|"), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _markdown_cell(variant: VariantSummary, column: Column) -> str:
    cell = variant.cells.get(column.name)
    text = cell_text(cell, column, len(variant.seeds))
    return f"**{text}**" if cell is not None and cell.best else text
