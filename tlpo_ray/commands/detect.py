"""`tlpo detect`: wrong-language words, marked in their line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import detectors
from tlpo_ray.commands.display import console, marked
from tlpo_ray.flow.errors import UserError


def detect_command(files: Sequence[Path], language: str, english: str, field: str | None) -> None:
    """Print each line with confusion, its spans marked, and a summary."""
    if not language:
        raise UserError(f"--language is missing: one of {', '.join(detectors.languages())}")
    profile = detectors.profile(language, english_setting(english))
    lines = confused = 0
    for name, number, text in _lines(files, field):
        lines += 1
        spans = detectors.spans(text, profile)
        if spans:
            confused += 1
            console.print(f"[dim]{name}:{number}:{spans[0].index + 1}[/dim] ", end="")
            console.print(marked(text, [(span.index, span.end) for span in spans]), soft_wrap=True)
    rate = confused / lines if lines else 0.0
    console.print(f"{confused} of {lines} lines hold a word of another language ({rate:.1%})")


def english_setting(value: str) -> detectors.English:
    """Check an `--english` value.

    Raises:
        UserError: it is neither of the two settings.
    """
    if value == "neutral":
        return "neutral"
    if value == "confusion":
        return "confusion"
    raise UserError(f"--english {value}: expected neutral or confusion")


def _lines(files: Sequence[Path], field: str | None) -> Iterator[tuple[str, int, str]]:
    """Name, line number from 1 and text of every line that is not empty."""
    if not files:
        yield from _texts("stdin", sys.stdin, field)
    for file in files:
        try:
            with file.open(encoding="utf-8", errors="surrogateescape") as opened:
                yield from _texts(str(file), opened, field)
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}") from error


def _texts(name: str, lines: Iterable[str], field: str | None) -> Iterator[tuple[str, int, str]]:
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\n") if field is None else _field(name, number, line, field)
        if text.strip():
            yield name, number, text


def _field(name: str, number: int, line: str, field: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{name} line {number}: not JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{name} line {number}: no text in field {field!r}; found {found}")
    return str(row[field])
