"""Fences of blocks of code in Markdown (CommonMark 4.5)."""

from __future__ import annotations

import re
from functools import cache

_MARK = r"[-*+]|[0-9]{1,3}[.)]"
_BEFORE = rf"[ \t>]*(?:(?:{_MARK})[ \t]+)*"

BARS = r"`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,}"
"""Pattern of the signs that open a block; those of backticks have no further backtick on their line."""
BEFORE = re.compile(_BEFORE)
"""Matches what may be on a line before a fence that opens: quotation marks of Markdown, and marks of lists."""
OPENING = re.compile(rf"{_BEFORE}(?P<bars>{BARS})[ \t]*(?P<language>[^\s`]*)[^\n]*\n")
"""Matches a line that opens a block, with the name of its programming language."""
MAYBE_OPENING = re.compile(
    rf"[ \t>]*(?:(?:{_MARK})[ \t]*)*(?:[0-9]{{1,3}}|`{{0,2}}|`{{3,}}[^`\n]*|~{{0,2}}|~{{3,}}[^\n]*)"
)
"""Matches all of an unfinished line that may become one that opens a block."""
MAYBE_CLOSING = re.compile(r"[ \t>]*[`~]*[ \t]*\r?")
"""Matches all of an unfinished line that may become one that closes a block."""


@cache
def closing(bars: str) -> re.Pattern[str]:
    """Return the pattern of a line that closes the block that these signs have opened: as many of them, or more."""
    return re.compile(rf"^[ \t>]*{at_least(bars)}[ \t]*\r?$", re.MULTILINE)


def at_least(bars: str) -> str:
    """Return a pattern of as many signs of a fence as these, or more."""
    return f"{re.escape(bars[0])}{{{len(bars)},}}"
