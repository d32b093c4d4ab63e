"""Scripts of characters, and sets of code points as classes of regular expressions."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from functools import cache

from detectors.script_ranges import RANGES

Ranges = list[tuple[int, int]]
"""First and last code point of each stretch; both belong to it."""

COMBINING = "300-36F"
PHONETIC_RANGES = "250-2AF 1D00-1DBF 1DF00-1DF81"
# Signs of the Common and Inherited scripts that appear inside words: tatweel, vowel signs and joiners; kana marks.
_KANA_MARKS = "3099-309C 30FC"
_MARKS = {"Arabic": "640 64B-65F 670 200C-200D", "Hiragana": _KANA_MARKS, "Katakana": _KANA_MARKS}


def ranges_of(text: str) -> Ranges:
    """Return the ranges that hexadecimal text such as "41-5A AA" describes, sorted."""
    pairs = (item.split("-") for item in text.split())
    return sorted((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)


def ranges_of_letters(letters: str) -> Ranges:
    """Return one range per letter, sorted."""
    return sorted((ord(letter), ord(letter)) for letter in set(letters))


def subtract(ranges: Ranges, holes: Ranges) -> Ranges:
    """Return the parts of `ranges` outside `holes`, which are sorted."""
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
    """Return the ranges as they are written between the brackets of a regular expression class."""
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in ranges)


def search_class(ranges: Ranges) -> re.Pattern[str]:
    """Return a pattern of one character of the ranges, written as a negated class of all the others.

    `re` compiles such a class to a table for U+0000 to U+FFFF. A class that also lists ranges beyond U+FFFF gets none:
    every clean character is then compared with every range, which is 100 times slower.
    """
    return re.compile(f"[^{as_class(subtract([(0, sys.maxunicode)], sorted(ranges)))}]")


def script_of(char: str) -> str:
    """Return the name of a character's script; "Common" for signs, digits and all that belongs to no single script."""
    starts, ends, names = _script_table()
    index = bisect_right(starts, ord(char)) - 1
    return names[index] if index >= 0 and ord(char) <= ends[index] else "Common"


@cache
def script_class(script: str) -> str:
    """Return the letters of a script, as written between the brackets of a regular expression class."""
    return as_class(ranges_of(RANGES[script]))


@cache
def basic_latin_class() -> str:
    """Return the Latin letters up to U+FFFF, for a class; with the rarer ones a class is ten times slower."""
    return as_class(in_basic_plane(RANGES["Latin"]))


def in_basic_plane(ranges: str) -> Ranges:
    """Return the ranges that the hexadecimal text describes, as far as U+FFFF."""
    return subtract(ranges_of(ranges), [(0x10000, sys.maxunicode)])


def mark_class(script: str) -> str:
    """Return the marks that may follow a letter of a script inside a word, for a class."""
    return as_class(ranges_of(f"{COMBINING} {_MARKS.get(script, '')}"))


def phonetic_class() -> str:
    """Return the letters of the International Phonetic Alphabet outside plain Latin, for a class."""
    return as_class(ranges_of(PHONETIC_RANGES))


@cache
def _script_table() -> tuple[list[int], list[int], list[str]]:
    rows = sorted((start, end, script) for script, text in RANGES.items() for start, end in ranges_of(text))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
