"""Runs: maximal stretches of one script, the units that are judged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from detectors.scripts import mark_class, script_class, script_of

# Inside a Latin word: don't, l’éthique, color-coded.
LATIN_JOINERS = "'’ʼ‐‑-"


@dataclass(frozen=True, slots=True)
class Run:
    """A word of one script, located by code points of the text that contains it."""

    start: int
    end: int
    script: str
    text: str


def run_at(text: str, index: int) -> Run | None:
    """Return the run that the letter at `index` belongs to; None for a mark without a letter before it."""
    script = script_of(text[index])
    if script == "Common":  # a combining mark: only after a Latin letter is it evidence
        script = script_of(text[index - 1]) if index else "Common"
        if script != "Latin":
            return None
    inner, word = _patterns(script)
    start = index
    while start > 0 and (inner.match(text[start - 1]) or _is_joint(text, start - 1, script, inner)):
        start -= 1
    # A mark after a joiner ends the word to its left, so the first match need not be the one around `index`.
    run = next(match for match in word.finditer(text, start) if match.end() > index)
    return Run(run.start(), run.end(), script, run.group())


def _is_joint(text: str, index: int, script: str, inner: re.Pattern[str]) -> bool:
    """Return whether the character at `index` joins the two halves of a Latin word."""
    return script == "Latin" and index > 0 and text[index] in LATIN_JOINERS and inner.match(text[index - 1]) is not None


@cache
def _patterns(script: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return two patterns: one character inside a word of the script, and a word."""
    letter = script_class(script)
    inner = f"[{letter}{mark_class(script)}]"
    joined = f"(?:[{LATIN_JOINERS}][{letter}]{inner}*)*" if script == "Latin" else ""
    return re.compile(inner), re.compile(f"[{letter}]{inner}*{joined}")
