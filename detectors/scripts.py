"""Scripts of characters, and sets of code points as regular expression classes."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from functools import cache

from detectors.script_ranges import RANGES

Ranges = list[tuple[int, int]]
"""First and last code point of each stretch."""

COMBINING = "300-36F"
PHONETIC = "250-2AF 1D00-1DBF 1DF00-1DF81"
# Signs of the Common and Inherited scripts that stand inside words: tatweel, vowel signs and joiners; kana marks.
_KANA_MARKS = "3099-309C 30FC"
_MARKS = {"Arabic": "640 64B-65F 670 200C-200D", "Hiragana": _KANA_MARKS, "Katakana": _KANA_MARKS}


def ranges_of(text: str) -> Ranges:
    """The ranges that hexadecimal text like "41-5A AA" spells, sorted."""
    pairs = (item.split("-") for item in text.split())
    return sorted((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)


def ranges_of_letters(letters: str) -> Ranges:
    """One range a letter."""
    return sorted((ord(letter), ord(letter)) for letter in set(letters))


def without(ranges: Ranges, holes: Ranges) -> Ranges:
    """What is left of `ranges` outside `holes`; `holes` are sorted."""
    kept: Ranges = []
    for start, end in ranges:
        for low, high in holes:
            if high < start or low > end:
                continue
            if low > start:
                kept.append((start, low - 1))
            start = high + 1
        if start <= end:
            kept.append((start, end))
    return kept


def as_class(ranges: Ranges) -> str:
    """Inside of a regular expression class."""
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in ranges)


def search_class(ranges: Ranges) -> re.Pattern[str]:
    """One character of the ranges, spelled as none of the others: `re` tells a clean character from a table then.

    Without that each clean character is held against every range beyond U+FFFF, which is 100 times slower.
    """
    return re.compile(f"[^{as_class(without([(0, sys.maxunicode)], sorted(ranges)))}]")


def script_of(char: str) -> str:
    """Name of a character's script; "Common" for signs, digits and what has no script of its own."""
    starts, ends, names = _script_table()
    index = bisect_right(starts, ord(char)) - 1
    return names[index] if index >= 0 and ord(char) <= ends[index] else "Common"


@cache
def script_class(script: str) -> str:
    """Inside of a regular expression class: letters of a script."""
    return as_class(ranges_of(RANGES[script]))


@cache
def basic_latin_class() -> str:
    """Inside of a regular expression class: Latin letters up to U+FFFF; a class with rarer ones is ten times slower."""
    return as_class(in_basic_plane(RANGES["Latin"]))


def in_basic_plane(ranges: str) -> Ranges:
    """The ranges that the text spells, up to U+FFFF."""
    return without(ranges_of(ranges), [(0x10000, sys.maxunicode)])


def mark_class(script: str) -> str:
    """Inside of a regular expression class: what may follow a letter of a script inside a word."""
    return as_class(ranges_of(f"{COMBINING} {_MARKS.get(script, '')}"))


def phonetic_class() -> str:
    """Inside of a regular expression class: letters of the International Phonetic Alphabet outside Latin."""
    return as_class(ranges_of(PHONETIC))


@cache
def _script_table() -> tuple[list[int], list[int], list[str]]:
    rows = sorted((start, end, script) for script, text in RANGES.items() for start, end in ranges_of(text))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
