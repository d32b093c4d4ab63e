"""How `tlpo detect` shows what it found: marked text, JSON lines, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

import detectors
from tlpo_ray.commands.display import console, marked, rate
from tlpo_ray.detect.judge import Tally
from tlpo_ray.detect.units import Unit

MOST_ROWS = 4
"""Lines of one record that are shown."""
MOST_MARKS = 6
"""Spans of one line that are shown."""
WHOLE = 100
"""Characters up to which a line is shown whole where there is no terminal with a width of its own."""
CUTS = ((40, 80), (24, 50), (12, 30), (6, 20))
"""From generous to tight: characters around a span that are kept of a longer line, and how long it may be itself."""
GAP = "…"

# One sign for another, so that indices stay: what a terminal would obey, and what cannot be written as UTF-8.
_VISIBLE: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x09: " ",
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD),
    **dict.fromkeys([0x2028, 0x2029], 0x2424),
}


def write_json(unit: Unit, spans: Sequence[detectors.Confusion], language: str | None) -> None:
    """One line a span on standard output, in ASCII: a lone surrogate comes back as what it was."""
    for span, line, column in _located(unit, spans):
        row = {
            "file": unit.source,
            "record": unit.number,
            "line": line,
            "column": column,
            "index": span.index,
            "end": span.end,
            "text": span.text,
            "script": span.script,
            "tier": span.tier,
            "language": language,
        }
        sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def print_marked(unit: Unit, spans: Sequence[detectors.Confusion], language: str | None) -> None:
    """The lines of a unit that hold spans, each with its place, long ones shortened around the spans.

    Args:
        language: shown behind the place; None where it is the same for all.
    """
    by_line: dict[int, list[tuple[detectors.Confusion, int]]] = {}
    for span, line, column in _located(unit, spans):
        by_line.setdefault(line, []).append((span, column))
    for line, found in list(by_line.items())[:MOST_ROWS]:
        (first, column), start = found[0], found[0][0].index - found[0][1] + 1
        end = unit.text.find("\n", first.index)
        text = unit.text[start : end if end >= 0 else len(unit.text)].removesuffix("\r")
        within = _joined(text, [(span.index - start, min(span.end - start, len(text))) for span, _ in found])
        record = f"{unit.number}:" if unit.is_record else ""
        place = Text(f"{unit.source}:{record}{line}:{column}".translate(_VISIBLE), style="dim")
        code = Text.assemble(" ", (language, "cyan")) if language else Text()
        room = console.width - place.cell_len - code.cell_len - 1 if console.is_terminal else None
        console.print(Text.assemble(place, code, " ", marked(*_fitting(text, within, room))), soft_wrap=True)
    if len(by_line) > MOST_ROWS:
        more = len(by_line) - MOST_ROWS
        console.print(Text(f"  {GAP} and {more:,} more {'line' if more == 1 else 'lines'} of this record", style="dim"))


def rates_table(tallies: Mapping[str, Tally]) -> Table:
    """Pass rates by language, and of all."""
    table = _table("language", "answers", "confused", "empty", "RPR", "95 %", "WPR", "lines")
    for name, tally in _with_total(tallies):
        rates = tally.rates
        if rates is not None:
            table.add_row(
                name,
                f"{rates.answers:,}",
                f"{rates.failed:,}",
                f"{rates.empty:,}",
                rate(rates.rpr),
                "–".join(map(rate, rates.rpr_interval)) if rates.rpr_interval else "–",
                rate(rates.wpr),
                rate(rates.line_pass_rate),
            )
    table.caption = "RPR, WPR, lines: share of answers (with words), of words and of lines without confusion"
    return table


def flagged_table(tallies: Mapping[str, Tally]) -> Table:
    """Units by language, and how many of them a detector flagged."""
    table = _table("language", "texts", "flagged", "share")
    for name, tally in _with_total(tallies):
        table.add_row(name, f"{tally.units:,}", f"{tally.confused:,}", rate(tally.rate))
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=ROUNDED, caption_justify="left", header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _with_total(tallies: Mapping[str, Tally]) -> Iterator[tuple[str, Tally]]:
    for language in sorted(tallies):
        yield language or "–", tallies[language]
    if len(tallies) != 1:
        yield "all", sum(tallies.values(), Tally())


def _located(unit: Unit, spans: Sequence[detectors.Confusion]) -> Iterator[tuple[detectors.Confusion, int, int]]:
    """Each span with its line and column from 1: in the file for plain text, in the unit's text for a record."""
    line, line_start = 1 if unit.is_record else unit.line, 0
    for span in spans:
        line += unit.text.count("\n", line_start, span.index)
        line_start = unit.text.rfind("\n", 0, span.index) + 1
        yield span, line, span.index - line_start + 1


def _joined(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans with nothing but white space between them as one: a foreign sentence is easier to read in one piece."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and not text[joined[-1][1] : start].strip():
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _fitting(text: str, spans: list[tuple[int, int]], room: int | None) -> tuple[str, list[tuple[int, int]]]:
    """A line as a terminal may show it, and where its spans are in that: on one row if that can be.

    Args:
        room: cells of the row; None where there is no terminal.
    """
    text = text.translate(_VISIBLE)
    if len(text) <= WHOLE if room is None else cell_len(text) <= room:
        return text, spans
    cuts = [_excerpt(text, spans, *cut) for cut in CUTS]
    return next((cut for cut in cuts if room is None or cell_len(cut[0]) <= room), cuts[-1])


def _excerpt(
    text: str, spans: Sequence[tuple[int, int]], context: int, longest: int
) -> tuple[str, list[tuple[int, int]]]:
    """The spans, whole up to `longest` characters, with `context` characters around each."""
    shown, places, position = "", [], 0
    for number, (start, end) in enumerate(spans[:MOST_MARKS]):
        left = max(position, start - context)
        shown += (GAP if left > position else "") + text[left:start]
        span = text[start:end]
        if len(span) > longest:
            span = span[: longest // 2] + GAP + span[-longest // 2 :]
        places.append((len(shown), len(shown) + len(span)))
        shown += span
        position = min(end + context, spans[number + 1][0] if number + 1 < len(spans) else len(text))
        shown += text[end:position]
    return shown + (GAP if position < len(text) else ""), places
