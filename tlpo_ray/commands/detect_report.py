"""Output formats of `tlpo detect`: marked text, JSON lines, tables."""

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
from tlpo_ray.detect.checker import LanguageTotals
from tlpo_ray.detect.detection import UnitFindings
from tlpo_ray.detect.units import Unit

MAX_LINES = 4
"""Number of lines of one record that are shown."""
MAX_MARKS = 6
"""Number of marked spans that are shown per line."""
MAX_CHARACTERS = 100
"""Length up to which a line is shown complete if output does not go to a terminal, which has a width of its own."""
CUTS = ((40, 80), (24, 50), (12, 30), (6, 20))
"""Ways to shorten a line, from generous to tight: (characters kept on each side of a span, longest span)."""
GAP = "…"

# Characters that a terminal would obey, or that UTF-8 cannot encode, each replaced by one other so that indices stay.
_VISIBLE: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x09: " ",
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD),
    **dict.fromkeys([0x2028, 0x2029], 0x2424),
}


def write_json(found: UnitFindings) -> None:
    """Write one line per finding to standard output, in ASCII: its escapes preserve even lone surrogates."""
    for number, (span, line, column) in enumerate(_located(found.unit, found.findings)):
        row = {
            "file": found.unit.source,
            "record": found.unit.number,
            "line": line,
            "column": column,
            "index": span.start,
            "end": span.end,
            "text": span.text,
            "script": span.kind,
            "tier": span.rule,
            "language": found.language,
            **({"part": found.parts[number]} if found.parts else {}),
        }
        sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def print_marked(found: UnitFindings, show_language: bool) -> None:
    """Print the lines of a unit that contain findings, each with its place, long ones shortened around the findings.

    Args:
        found: the unit and its findings.
        show_language: whether the language is printed after the place; not needed if it is the same for all units.
    """
    unit = found.unit
    by_line: dict[int, list[tuple[detectors.Finding, int]]] = {}
    for span, line, column in _located(unit, found.findings):
        by_line.setdefault(line, []).append((span, column))
    for line, line_spans in list(by_line.items())[:MAX_LINES]:
        first, column = line_spans[0]
        start, end = first.start - column + 1, unit.text.find("\n", first.start)
        text = unit.text[start : end if end >= 0 else len(unit.text)].removesuffix("\r")
        marks = _join_adjacent(text, [(span.start - start, min(span.end - start, len(text))) for span, _ in line_spans])
        record = f"{unit.number}:" if unit.is_record else ""
        place = Text(f"{unit.source}:{record}{line}:{column}".translate(_VISIBLE), style="dim")
        language = Text.assemble(" ", (found.language, "cyan")) if show_language and found.language else Text()
        width = console.width - place.cell_len - language.cell_len - 1 if console.is_terminal else None
        console.print(Text.assemble(place, language, " ", marked(*_fit(text, marks, width))), soft_wrap=True)
    if len(by_line) > MAX_LINES:
        more = len(by_line) - MAX_LINES
        console.print(Text(f"  {GAP} and {more:,} more {'line' if more == 1 else 'lines'} of this record", style="dim"))


def rates_table(totals: Mapping[str, LanguageTotals]) -> Table:
    """Return a table of pass rates with one row per language, each followed by its parts, and one for all languages."""
    table = _table("language", "answers", "confused", "empty", "RPR", "95 %", "WPR", "lines")
    for name, language_totals in _with_total(totals):
        if language_totals.rates is not None:
            table.add_row(name, *_rate_cells(language_totals.rates))
        for part, rates in language_totals.parts.items():
            table.add_row(f"  {part.replace('_', ' ')}", *_rate_cells(rates), style="dim")
    table.caption = "RPR, WPR, lines: share of answers (with words), of words and of lines without confusion"
    return table


def _rate_cells(rates: detectors.Rates) -> tuple[str, ...]:
    return (
        f"{rates.answers:,}",
        f"{rates.failed:,}",
        f"{rates.empty:,}",
        rate(rates.rpr),
        "–".join(map(rate, rates.rpr_interval)) if rates.rpr_interval else "–",
        rate(rates.wpr),
        rate(rates.line_pass_rate),
    )


def flagged_table(totals: Mapping[str, LanguageTotals]) -> Table:
    """Return a table of units and flagged units with one row per language, and one for all languages."""
    table = _table("language", "texts", "flagged", "share")
    for name, language_totals in _with_total(totals):
        counts = f"{language_totals.units:,}", f"{language_totals.confused:,}"
        table.add_row(name, *counts, rate(language_totals.confused_share))
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=ROUNDED, caption_justify="left", header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _with_total(totals: Mapping[str, LanguageTotals]) -> Iterator[tuple[str, LanguageTotals]]:
    for language in sorted(totals):
        yield language or "–", totals[language]
    if len(totals) != 1:
        yield "all", sum(totals.values(), LanguageTotals())


def _located(unit: Unit, spans: Sequence[detectors.Finding]) -> Iterator[tuple[detectors.Finding, int, int]]:
    """Yield each span with its line and column, from 1: in the file for plain text, in the unit's text for a record."""
    line, line_start = 1 if unit.is_record else unit.line, 0
    for span in spans:
        line += unit.text.count("\n", line_start, span.start)
        line_start = unit.text.rfind("\n", 0, span.start) + 1
        yield span, line, span.start - line_start + 1


def _join_adjacent(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans with only white space between them: a foreign sentence is easier to read in one piece."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and not text[joined[-1][1] : start].strip():
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _fit(text: str, spans: list[tuple[int, int]], width: int | None) -> tuple[str, list[tuple[int, int]]]:
    """Shorten a line to one row of the terminal if possible; return it with the positions of its spans.

    Args:
        text: the line.
        spans: code points [start, end) of its marks.
        width: width of the row in cells; None if output does not go to a terminal.
    """
    text = text.translate(_VISIBLE)
    if len(text) <= MAX_CHARACTERS if width is None else cell_len(text) <= width:
        return text, spans
    cuts = [_excerpt(text, spans, *cut) for cut in CUTS]
    return next((cut for cut in cuts if width is None or cell_len(cut[0]) <= width), cuts[-1])


def _excerpt(
    text: str, spans: Sequence[tuple[int, int]], context: int, longest: int
) -> tuple[str, list[tuple[int, int]]]:
    """Return the spans, each up to `longest` characters, with `context` characters around them, and their positions."""
    shown, places, position = "", [], 0
    for number, (start, end) in enumerate(spans[:MAX_MARKS]):
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
