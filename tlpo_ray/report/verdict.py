"""What an experiment's numbers say, in one paragraph that hides nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlpo_ray.report.summary import COLUMNS, MARGIN, Cell, Column, VariantSummary, formatted

OURS, BEFORE = "tlpo", "baseline"
"""Names of the variants that the verdict is about."""
RATES = ("rpr", "accuracy", "accuracy_strict")
"""What an ablation is judged by."""
_COLUMN = {column.name: column for column in COLUMNS}


def verdict(variants: Sequence[VariantSummary]) -> str:
    """Where TLPO stands among other methods and what varying it changes; empty with nothing to compare."""
    named = {variant.name: variant for variant in variants}
    trained = [one for one in variants if one.method != "none"]
    ours, before = named.get(OURS), named.get(BEFORE)
    others = [one for one in trained if one.name != OURS and not one.axes]
    varied = [one for one in trained if one.axes]
    sentences: list[str] = []
    if ours is not None and others:
        sentences += [_first(ours, others), _kept(ours, before), _beaten(ours, others)]
    if len(varied) > 1:
        sentences += [*(_range(varied, _COLUMN[name]) for name in RATES), _below(varied, before)]
    if sentences and all(len(one.seeds) == 1 for one in trained):
        sentences.append("This is one seed: how much of it is chance is not known.")
    return " ".join(filter(None, sentences))


def _first(ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    column = _COLUMN["rpr"]
    rival = max((one for one in others if "rpr" in one.cells), key=lambda one: one.cells["rpr"].mean, default=None)
    if rival is None or "rpr" not in ours.cells:
        return ""
    mine, theirs = ours.cells["rpr"], rival.cells["rpr"]
    if abs(mine.mean - theirs.mean) <= MARGIN[column.unit]:
        return f"{ours.label} and {rival.label} have the best RPR, {_said(mine, column)}."
    says = "has" if mine.mean > theirs.mean else "does not have"
    next_to_it = f"{rival.label} {'comes next with' if mine.mean > theirs.mean else 'has'} {_said(theirs, column)}"
    doubt = "" if _apart(mine, theirs) else ", no further apart than seeds are"
    return f"{ours.label} {says} the best RPR: {_said(mine, column)}; {next_to_it}{doubt}."


def _kept(ours: VariantSummary, before: VariantSummary | None) -> str:
    if before is None or "accuracy" not in ours.cells or "accuracy" not in before.cells:
        return ""
    column, mine, was = _COLUMN["accuracy"], ours.cells["accuracy"], before.cells["accuracy"]
    if mine.mean >= was.mean - MARGIN[column.unit]:
        return f"Its accuracy is {_said(mine, column)}, no worse than the {_said(was, column)} before training."
    doubt = "" if _apart(mine, was) else ", no further than seeds are apart"
    return f"Its accuracy is {_said(mine, column)}, below the {_said(was, column)} before training{doubt}."


def _beaten(ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    beaten = [said for column in COLUMNS if (said := _beaten_on(column, ours, others))]
    if not beaten:
        return f"No other method beats {ours.label} on any column."
    return f"{ours.label} is beaten on {'; on '.join(beaten)}."


def _beaten_on(column: Column, ours: VariantSummary, others: Sequence[VariantSummary]) -> str:
    mine = ours.cells.get(column.name)
    if column.better == 0 or mine is None:
        return ""
    ahead = [
        f"{one.label} {_said(cell, column)}{'' if _apart(mine, cell) else ', within the spread'}"
        for one in others
        if (cell := one.cells.get(column.name)) is not None
        and column.better * (cell.mean - mine.mean) > MARGIN[column.unit]
    ]
    return f"{column.heading}, {_said(mine, column)} ({'; '.join(ahead)})" if ahead else ""


def _range(varied: Sequence[VariantSummary], column: Column) -> str:
    """From the best to the worst, and whether seeds alone could make the difference."""
    found = sorted((one for one in varied if column.name in one.cells), key=lambda one: -one.cells[column.name].mean)
    if len(found) < 2:
        return ""
    best, worst = found[0], found[-1]
    high, low = best.cells[column.name], worst.cells[column.name]
    heading = column.heading[0].upper() + column.heading[1:]
    if high.mean - low.mean <= MARGIN[column.unit]:
        return f"{heading} is the same for all, {_said(high, column)}."
    doubt = "" if _apart(high, low) else ", no further apart than seeds are"
    return f"{heading} goes from {_said(high, column)} ({best.label}) to {_said(low, column)} ({worst.label}){doubt}."


def _below(varied: Sequence[VariantSummary], before: VariantSummary | None) -> str:
    was = before.cells.get("accuracy") if before is not None else None
    if was is None:
        return ""
    column = _COLUMN["accuracy"]
    below = [
        f"{one.label} ({_said(cell, column)})"
        for one in varied
        if (cell := one.cells.get("accuracy")) is not None and cell.mean < was.mean - MARGIN[column.unit]
    ]
    where = f"these are below it: {', '.join(below)}" if below else "none is below it"
    return f"Accuracy before training is {_said(was, column)}; {where}."


def _apart(one: Cell, other: Cell) -> bool:
    """Whether two means differ by more than both spreads together; with one seed there is none: True."""
    return abs(one.mean - other.mean) > math.hypot(one.half, other.half)


def _said(cell: Cell, column: Column) -> str:
    unit = {"share": " %", "nats": " nats", "seconds": " s", "number": ""}[column.unit]
    # No line ends inside a number.
    return (" ".join(filter(None, formatted(cell, column))) + unit).replace(" ", "\u00a0")
