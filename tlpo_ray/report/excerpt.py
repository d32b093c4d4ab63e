"""Pieces of texts for a page: parts around marked spans, cut where they are long, languages in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeVar

T = TypeVar("T")
Parts = list[tuple[str, bool]]
"""A text in pieces: each with whether it is confused."""
AROUND = 600
"""Characters of clean text that stay at either side of a confused span: whole short answers, and a page that opens."""
CUT = " … "


def marked_parts(text: str, spans: Iterable[Sequence[int]]) -> Parts:
    """Text cut at its spans (code points), long clean stretches shortened."""
    parts: Parts = []
    at = 0
    for start, end in sorted((span[0], span[1]) for span in spans):
        parts += [(text[at:start], False), (text[max(at, start) : end], True)]
        at = max(at, end)
    parts.append((text[at:], False))
    last = len(parts) - 1
    shown = [
        (piece if confused else _shortened(piece, first=number == 0, last=number == last), confused)
        for number, (piece, confused) in enumerate(parts)
    ]
    return [part for part in shown if part[0]]


def _shortened(piece: str, *, first: bool, last: bool) -> str:
    if len(piece) <= 2 * AROUND:
        return piece
    head, tail = piece[:AROUND], piece[-AROUND:]
    if first and not last:
        return CUT + piece[-2 * AROUND :]
    return piece[: 2 * AROUND] + CUT if last else head + CUT + tail


def whole(text: str) -> str:
    """A text whose first and last characters may be incomplete (U+FFFD), as it is shown."""
    inside = text.strip("\ufffd")
    start, end = "…" * text.startswith("\ufffd"), "…" * text.endswith("\ufffd")
    return f"{start}{inside}{end}" if inside else "…" * bool(text)


def in_turn(items: Iterable[T], language: Callable[[T], str]) -> Iterator[T]:
    """The languages in turn, so that a cut leaves some of each."""
    lots: dict[str, list[T]] = {}
    for item in items:
        lots.setdefault(language(item), []).append(item)
    for turn in zip_longest(*lots.values()):
        yield from (item for item in turn if item is not None)
