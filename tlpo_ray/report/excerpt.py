"""Excerpts of texts for a page: parts around marked spans, with long clean stretches cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeVar

T = TypeVar("T")
Parts = list[tuple[str, bool]]
"""A text in pieces: (piece, whether it is confused)."""
CONTEXT_CHARACTERS = 600
"""Characters of clean text that are kept on either side of a confused span: enough for complete short answers, and few
enough for a page that opens quickly."""
CUT = " … "


def marked_parts(text: str, spans: Iterable[Sequence[int]]) -> Parts:
    """Split a text at its spans (code points) and shorten long clean stretches."""
    parts: Parts = []
    at = 0
    for start, end in sorted((span[0], span[1]) for span in spans):
        parts += [(text[at:start], False), (text[max(at, start) : end], True)]
        at = max(at, end)
    parts.append((text[at:], False))
    last = len(parts) - 1
    shortened = [
        (piece if confused else _shorten(piece, first=number == 0, last=number == last), confused)
        for number, (piece, confused) in enumerate(parts)
    ]
    return [part for part in shortened if part[0]]


def _shorten(piece: str, *, first: bool, last: bool) -> str:
    if len(piece) <= 2 * CONTEXT_CHARACTERS:
        return piece
    head, tail = piece[:CONTEXT_CHARACTERS], piece[-CONTEXT_CHARACTERS:]
    if first and not last:
        return CUT + piece[-2 * CONTEXT_CHARACTERS :]
    return piece[: 2 * CONTEXT_CHARACTERS] + CUT if last else head + CUT + tail


def trim_partial(text: str) -> str:
    """Replace incomplete characters (U+FFFD) at the ends of a text by an ellipsis."""
    inside = text.strip("\ufffd")
    start, end = "…" * text.startswith("\ufffd"), "…" * text.endswith("\ufffd")
    return f"{start}{inside}{end}" if inside else "…" * bool(text)


def round_robin(items: Iterable[T], language: Callable[[T], str]) -> Iterator[T]:
    """Yield items with the languages taking turns, so that every language survives a cut."""
    by_language: dict[str, list[T]] = {}
    for item in items:
        by_language.setdefault(language(item), []).append(item)
    for turn in zip_longest(*by_language.values()):
        yield from (item for item in turn if item is not None)
