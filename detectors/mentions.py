"""Markers that an answer explains: in code or in quotation marks they are text like any other."""

from __future__ import annotations

import re

LONGEST = 200
"""Maximum number of characters behind a marker, on its line, in which its code or its quotation closes."""
LONGEST_LINE = 1000
"""Number of characters of a line before a marker that are examined."""
_TICKS = re.compile("`+")
_QUOTES = {
    '"': '"', "'": "'", "“": "”", "„": "“”", "‘": "’", "‚": "‘’", "«": "»", "‹": "›", "»": "«", "「": "」", "『": "』",
    "《": "》", "＂": "＂",
}  # fmt: skip
"""What opens a quotation, and the signs of which one closes it."""


def end_of_mention(before: str, ahead: str, length: int, *, is_end: bool) -> int | None:
    """Return the number of characters in `ahead` up to which markers are text, 0 if its first one is not a mention.

    A marker is mentioned in a code span, or at the beginning of a quotation, either of which closes on the same line.

    Args:
        before: what stands on the line before the marker.
        ahead: the text that begins with the marker.
        length: length of the marker.
        is_end: whether `ahead` is complete; if not, None is returned as long as more text decides.
    """
    most = length + LONGEST
    newline = ahead.find("\n")
    is_whole = is_end or newline >= 0 or len(ahead) >= most
    ahead = ahead[: min(most, newline if newline >= 0 else most)]
    ends = _end_of_code(before, ahead, is_whole), _end_of_quotation(before, ahead, length, is_whole)
    return None if None in ends else max(end or 0 for end in ends)


def _end_of_code(before: str, ahead: str, is_whole: bool) -> int | None:
    """Return where the code span around the marker closes; 0 without one; None if more text decides."""
    line, position = before + ahead, 0
    while (opening := _TICKS.search(line, position)) is not None and opening.start() < len(before):
        closing = next((run for run in _TICKS.finditer(line, opening.end()) if run.group() == opening.group()), None)
        if not is_whole and (closing is None or closing.end() == len(line)):
            return None
        if closing is not None and closing.start() >= len(before):
            return closing.end() - len(before)
        position = opening.end() if closing is None else closing.end()
    return 0


def _end_of_quotation(before: str, ahead: str, length: int, is_whole: bool) -> int | None:
    """Return where the quotation that begins with the marker closes; 0 without one; None if more text decides."""
    mark = before[-1:]
    if mark not in _QUOTES or not mark or not _opens(mark, before[:-1]):
        return 0
    closings = [place for sign in _QUOTES[mark] if (place := ahead.find(sign, length)) >= 0]
    return min(closings) if closings else 0 if is_whole else None


def _opens(mark: str, before: str) -> bool:
    """Return whether a quotation mark opens a quotation, by what stands before it."""
    if mark == "'":  # elsewhere an apostrophe
        return not (before[-1:].isascii() and before[-1:].isalnum())
    return mark not in '"＂' or before.count(mark) % 2 == 0
