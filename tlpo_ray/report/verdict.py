"""Summarises the numbers of an experiment in a paragraph and a list that hide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tlpo_ray.report.summary import COLUMNS, MARGIN, Cell, Column, VariantSummary, format_cell

OURS, BEFORE = "tlpo", "baseline"
"""Names of the variants that the verdict is about: TLPO, and the model before training."""
RATES = ("rpr", "accuracy", "accuracy_strict")
"""Metrics by which an ablation is judged."""
_COLUMN = {column.name: column for column in COLUMNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How TLPO compares with other methods and what varying it changes."""

    paragraph: str
    """Empty if there is nothing to compare."""
    losses: tuple[str, ...]
    """For each column on which another method beats TLPO: its value, and the methods that beat it."""

    @property
    def markdown(self) -> str:
        """Paragraph and list as Markdown."""
        return "\n\n".join(filter(None, [self.paragraph, "\n".join(f"* {loss}" for loss in self.losses)]))


def verdict(variants: Sequence[VariantSummary]) -> Verdict:
    """Return the verdict on the variants of an experiment."""
    by_name = {variant.name: variant for variant in variants}
    trained = [variant for variant in variants if variant.method != "none"]
    ours, before = by_name.get(OURS), by_name.get(BEFORE)
    others = [variant for variant in trained if variant.name != OURS and not variant.axes]
    varied = [variant for variant in trained if variant.axes]
    sentences: list[str] = []
    losses: list[str] = []
    if ours is not None and others:
        losses = [loss for column in COLUMNS if (loss := _loss(column, ours, others))]
        sentences += [_best_rpr(ours, others), _accuracy(ours, before)]
    if len(varied) > 1:
        sentences += [*(_range(varied, _COLUMN[name]) for name in RATES), _below_before(varied, before)]
    if sentences and all(len(variant.seeds) == 1 for variant in trained):
        sentences.append("There is only one seed, so how much of this is chance is unknown.")
    if ours is not None and others:
        sentences.append(
            f"{ours.label} is beaten on these columns:"
            if losses
            else f"No other method beats {ours.label} on any column."
        )
    return Verdict(paragraph=" ".join(filter(None, sentences)), losses=tuple(losses))


def _best_rpr(ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    column = _COLUMN["rpr"]
    measured = [variant for variant in others if "rpr" in variant.cells]
    rival = max(measured, key=lambda variant: variant.cells["rpr"].mean, default=None)
    if rival is None or "rpr" not in ours.cells:
        return ""
    cell, rival_cell = ours.cells["rpr"], rival.cells["rpr"]
    if abs(cell.mean - rival_cell.mean) <= MARGIN[column.unit]:
        return f"{ours.label} and {rival.label} have the best RPR, {_value(cell, column)}."
    first = cell.mean > rival_cell.mean
    rivals = f"{rival.label} {'comes next with' if first else 'has'} {_value(rival_cell, column)}"
    doubt = "" if _apart(cell, rival_cell) else ", which is within the spread over seeds"
    return f"{ours.label} {'has' if first else 'does not have'} the best RPR: {_value(cell, column)}; {rivals}{doubt}."


def _accuracy(ours: VariantSummary, before: VariantSummary | None) -> str:
    if before is None or "accuracy" not in ours.cells or "accuracy" not in before.cells:
        return ""
    column, cell, cell_before = _COLUMN["accuracy"], ours.cells["accuracy"], before.cells["accuracy"]
    if cell.mean >= cell_before.mean - MARGIN[column.unit]:
        return (
            f"Its accuracy is {_value(cell, column)}, no worse than the {_value(cell_before, column)} before training."
        )
    doubt = "" if _apart(cell, cell_before) else ", within the spread over seeds"
    return f"Its accuracy is {_value(cell, column)}, below the {_value(cell_before, column)} before training{doubt}."


def _loss(column: Column, ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    """Return the column with the methods that are better than ours; empty if there are none."""
    our_cell = ours.cells.get(column.name)
    if column.better == 0 or our_cell is None:
        return ""
    ahead = [
        (variant.label, cell)
        for variant in others
        if (cell := variant.cells.get(column.name)) is not None
        and column.better * (cell.mean - our_cell.mean) > MARGIN[column.unit]
    ]
    clearly = ", ".join(f"{label} {_value(cell, column)}" for label, cell in ahead if _apart(our_cell, cell))
    perhaps = ", ".join(f"{label} {_value(cell, column)}" for label, cell in ahead if not _apart(our_cell, cell))
    parts = [clearly, f"within the spread over seeds {perhaps}" if perhaps else ""]
    return f"{column.heading}, {_value(our_cell, column)}: {'; '.join(filter(None, parts))}" if ahead else ""


def _range(varied: Sequence[VariantSummary], column: Column) -> str:
    """Return the best and the worst variant, and whether seeds alone could explain the difference."""
    measured = [variant for variant in varied if column.name in variant.cells]
    ranked = sorted(measured, key=lambda variant: -variant.cells[column.name].mean)
    if len(ranked) < 2:
        return ""
    best, worst = ranked[0], ranked[-1]
    high, low = best.cells[column.name], worst.cells[column.name]
    heading = column.heading[0].upper() + column.heading[1:]
    if high.mean - low.mean <= MARGIN[column.unit]:
        return f"{heading} is the same for all, {_value(high, column)}."
    doubt = "" if _apart(high, low) else ", within the spread over seeds"
    return (
        f"{heading} ranges from {_value(high, column)} ({best.label}) to {_value(low, column)} ({worst.label}){doubt}."
    )


def _below_before(varied: Sequence[VariantSummary], before: VariantSummary | None) -> str:
    cell_before = before.cells.get("accuracy") if before is not None else None
    if cell_before is None:
        return ""
    column = _COLUMN["accuracy"]
    below = [
        f"{variant.label} ({_value(cell, column)})"
        for variant in varied
        if (cell := variant.cells.get("accuracy")) is not None and cell.mean < cell_before.mean - MARGIN[column.unit]
    ]
    which = f"below it are {', '.join(below)}" if below else "no variant is below it"
    return f"Accuracy before training is {_value(cell_before, column)}; {which}."


def _apart(cell: Cell, other: Cell) -> bool:
    """Return whether two means differ by more than both spreads together; one seed has no spread."""
    return abs(cell.mean - other.mean) > math.hypot(cell.half, other.half)


def _value(cell: Cell, column: Column) -> str:
    unit = {"share": " %", "nats": " nats", "seconds": " s", "number": "", "ratio": "", "count": ""}[column.unit]
    # Non-breaking spaces, so that a line never ends inside a number.
    return (" ".join(filter(None, format_cell(cell, column))) + unit).replace(" ", "\u00a0")
