"""Texts inside code and inside calls of tools: string literals and comments, with their places in what was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detectors.errors import MissingExtraError

NAMES = frozenset(("name", "type", "id", "tool", "tool_name", "function", "recipient_name"))
"""Keys of a call whose values are names of tools, not text."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_TAG = re.compile(r"<[^<>\n]*>")
_NAME = re.compile(r"[\w.:/-]+")


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, and where each of its characters was written."""

    text: str
    places: Sequence[int]
    """[len(text) + 1] index at which each character begins, and the last one ends."""


def literal_values(written: str, start: int = 0) -> Iterator[Literal]:
    """Yield the texts of a call: values of JSON or of arguments, and what is between tags.

    Keys, names of tools and numbers are left out. A value that is itself JSON is read in turn. The text of a string
    that is not closed is yielded as far as it goes.

    Args:
        written: the call as it was written, complete or not.
        start: index that its first character has in the places.
    """
    if written.lstrip().startswith("<"):
        yield from _between_tags(written, start)
        return
    key, position = "", 0
    while (opening := _next_quote(written, position)) is not None:
        value, position = _string(written, opening, start)
        rest = written[position:].lstrip()
        if rest.startswith(":"):
            key = value.text
        elif value.text.lstrip()[:1] in ("{", "["):
            yield from (_moved(inner, value) for inner in literal_values(value.text))
        elif not (key in NAMES and _NAME.fullmatch(value.text)):
            yield value
            key = ""


def literals_of_code(code: str, language: str) -> Iterator[Literal] | None:
    """Return the string literals and comments of a block of code; None if its language is not known.

    Args:
        code: the block, without its fences.
        language: name of the language, as it stands behind a fence.

    Raises:
        MissingExtraError: Pygments is not installed.
    """
    try:
        from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
        from pygments.util import ClassNotFound  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("texts in code are found by Pygments: pip install pygments") from error
    try:
        lexer = get_lexer_by_name(language, stripnl=False, stripall=False, ensurenl=False)
    except ClassNotFound:
        return None
    return _lexed(code, lexer)


def _lexed(code: str, lexer: object) -> Iterator[Literal]:
    from pygments.token import Comment, String  # type: ignore[import-untyped]

    pending: list[tuple[int, str]] = []
    for start, kind, text in lexer.get_tokens_unprocessed(code):  # type: ignore[attr-defined]
        is_text = kind in String and kind not in String.Affix and kind not in String.Escape
        if (is_text or kind in Comment) and kind not in Comment.Preproc and kind not in Comment.Hashbang:
            # A lexer splits a literal into quotes, text and escapes, which follow each other without a gap.
            if pending and pending[-1][0] + len(pending[-1][1]) != start:
                yield _joined(pending)
                pending = []
            pending.append((start, text))
    if pending:
        yield _joined(pending)


def _joined(pieces: Sequence[tuple[int, str]]) -> Literal:
    text = "".join(piece for _, piece in pieces)
    first = pieces[0][0]
    return Literal(text, range(first, first + len(text) + 1))


def _next_quote(written: str, position: int) -> int | None:
    found = [index for quote in "\"'" if (index := written.find(quote, position)) >= 0]
    return min(found) if found else None


def _string(written: str, opening: int, start: int) -> tuple[Literal, int]:
    """Return the string that opens at a quotation mark, with its escapes resolved, and the index behind it."""
    quote, text, places, position = written[opening], "", list[int](), opening + 1
    while position < len(written) and written[position] != quote:
        char, length = _character(written, position)
        text += char
        places += [start + position] * len(char)
        position += length
    places.append(start + position)
    return Literal(text, places), min(position + 1, len(written))


def _character(written: str, position: int) -> tuple[str, int]:
    """Return the character that is written at a position, and in how many characters."""
    if written[position] != "\\":
        return written[position], 1
    escaped = written[position + 1 : position + 2]
    if escaped != "u":
        return _ESCAPES.get(escaped, escaped), 1 + len(escaped)
    unit = _unit(written, position)
    if unit is None:
        return "", len(written) - position  # not complete
    if 0xD800 <= unit < 0xDC00 and (low := _unit(written, position + 6)) is not None and 0xDC00 <= low < 0xE000:
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), 12
    return chr(unit), 6


def _unit(written: str, position: int) -> int | None:
    digits = re.match(r"\\u([0-9A-Fa-f]{4})", written[position : position + 6])
    return None if digits is None else int(digits[1], 16)


def _between_tags(written: str, start: int) -> Iterator[Literal]:
    position = 0
    for tag in (*_TAG.finditer(written), None):
        end = len(written) if tag is None else tag.start()
        if written[position:end].strip():
            yield Literal(written[position:end], range(start + position, start + end + 1))
        position = end if tag is None else tag.end()


def _moved(inner: Literal, outer: Literal) -> Literal:
    return Literal(inner.text, [outer.places[place] for place in inner.places])
