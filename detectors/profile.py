"""What a detector knows about one language: which letters, scripts and readings are at home in it."""

from __future__ import annotations

import difflib
import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

from detectors.script_ranges import RANGES

English = Literal["neutral", "confusion"]
Segmenter = Literal["spaces", "jieba", "mecab"]
Ranges = list[tuple[int, int]]

# Never evidence for a language: ordinals, IPA and spacing modifiers, phonetic extensions, super- and subscripts,
# Ohm, Kelvin and Angstrom signs, turned signs, Roman numerals, 々 〇 and counting rods, invisible Hangul fillers.
_EXEMPT = (
    "AA BA 250-2B8 2E0-2E4 1D00-1DBF 2071 207F 2090-209F 2126 212A-212B 2132 214E 2160-2188 3005 3007 3021-3029 "
    "3038-303B 115F-1160 3164 FFA0 10780-10785 10787-107B0 107B2-107BF 1DF00-1DF81 1DF90-1DF96"
)
_PHONETIC = "250-2AF 1D00-1DBF 1DF00-1DF81"
_FULL_WIDTH_LATIN = "FF21-FF3A FF41-FF5A"
_LIGATURES = "FB00-FB06"
_COMBINING = "300-36F"
# Signs of the Common and Inherited scripts that stand inside words: tatweel, vowel signs and joiners; kana marks.
_KANA_MARKS = "3099-309C 30FC"
_MARKS = {"Arabic": "640 64B-65F 670 200C-200D", "Hiragana": _KANA_MARKS, "Katakana": _KANA_MARKS}


class UnknownLanguageError(ValueError):
    """No detector for the language; the message is one line for its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One row of the language table."""

    name: str
    scripts: tuple[str, ...]
    segmenter: Segmenter = "spaces"
    romanisation: str = ""
    """Accented letters that only a romanised reading of this language has."""
    pinyin: bool = False
    """Whether toned pinyin syllables are readings."""
    foreign_letters: str = field(default="", repr=False)
    """Letters of its own script that it does not have; a word with one of them is foreign as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """A language under one English setting. Built by `profile`, compared by identity."""

    code: str
    language: Language
    english: English
    suspects: re.Pattern[str] = field(repr=False)
    """One character that has to be looked at: a letter that is not the language's own."""
    beyond_ascii: re.Pattern[str] = field(repr=False)
    """One suspect that is not a plain Latin letter."""
    letters: re.Pattern[str] = field(repr=False)
    """One letter of the language."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return profile, (self.code, self.english)


def _simplified_only() -> str:
    """Chinese characters that Japanese does not write: in GB 2312 but not in JIS X 0208 with its extensions."""
    rows = (bytes((high, low)).decode("gb2312", "ignore") for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF))
    return "".join(char for char in rows if char and not char.encode("cp932", "ignore"))


LANGUAGES: dict[str, Language] = {
    # پ چ ڤ گ are not here: Arabic writes loan words with them.
    "ar": Language(name="Arabic", scripts=("Arabic",), romanisation="āīūḥḍṣṭẓḫḡġṯḏ", foreign_letters="کیہےٹڈڑںھ"),
    "ja": Language(
        name="Japanese",
        scripts=("Hiragana", "Katakana", "Han"),
        segmenter="mecab",
        romanisation="āīūēō",
        foreign_letters=_simplified_only(),
    ),
    "ko": Language(name="Korean", scripts=("Hangul",), romanisation="ŏŭ"),
    "zh": Language(name="Chinese", scripts=("Han", "Bopomofo"), segmenter="jieba", pinyin=True),
}


def languages() -> tuple[str, ...]:
    """Codes of the languages that have a detector."""
    return tuple(LANGUAGES)


@cache
def profile(language: str, english: English = "neutral") -> Profile:
    """The detector profile of a language.

    Args:
        english: "neutral": English is neither target nor confusion; "confusion": any English is confusion.

    Raises:
        UnknownLanguageError: there is no detector for `language`.
        ValueError: `english` is no setting.
    """
    if language not in LANGUAGES:
        raise UnknownLanguageError(_unknown(language))
    if english not in get_args(English):
        raise ValueError(f"English setting {english!r}: expected neutral or confusion")
    row = LANGUAGES[language]
    exempt = _EXEMPT + (f" {_FULL_WIDTH_LATIN} {_LIGATURES}" if english == "neutral" else "")
    foreign = [RANGES[script] for script in RANGES if script not in row.scripts]
    suspects = _without(_ranges(f"{' '.join(foreign)} {_COMBINING}"), _ranges(exempt))
    suspects += [(ord(char), ord(char)) for char in row.foreign_letters]
    return Profile(
        code=language,
        language=row,
        english=english,
        suspects=_search_class(suspects),
        beyond_ascii=_search_class(_without(suspects, [(0, 0x7F)])),
        letters=re.compile(f"[{''.join(_class(_ranges(RANGES[script])) for script in row.scripts)}]"),
    )


def script_of(char: str) -> str:
    """Name of a character's script; "Common" for signs, digits and what has no script of its own."""
    starts, ends, names = _script_table()
    index = bisect_right(starts, ord(char)) - 1
    return names[index] if index >= 0 and ord(char) <= ends[index] else "Common"


@cache
def script_class(script: str) -> str:
    """Inside of a regular expression class: letters of a script."""
    return _class(_ranges(RANGES[script]))


def mark_class(script: str) -> str:
    """Inside of a regular expression class: what may follow a letter of a script inside a word."""
    return _class(_ranges(f"{_COMBINING} {_MARKS.get(script, '')}"))


def phonetic_class() -> str:
    """Inside of a regular expression class: letters of the International Phonetic Alphabet outside Latin."""
    return _class(_ranges(_PHONETIC))


def _unknown(language: str) -> str:
    names = {row.name.lower(): code for code, row in LANGUAGES.items()} | {code: code for code in LANGUAGES}
    near = difflib.get_close_matches(language.lower(), names, n=2, cutoff=0.5)
    nearest = f"; nearest: {', '.join(dict.fromkeys(names[name] for name in near))}" if near else ""
    return f"language {language!r}: no detector for it{nearest}; there are: {', '.join(LANGUAGES)}"


def _ranges(text: str) -> Ranges:
    pairs = (item.split("-") for item in text.split())
    return sorted((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)


def _without(ranges: Ranges, holes: Ranges) -> Ranges:
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


def _search_class(ranges: Ranges) -> re.Pattern[str]:
    """One character of the ranges, spelled as none of the others: `re` tells a clean character from a table then.

    Without that each clean character is held against every range beyond U+FFFF, which is 100 times slower.
    """
    return re.compile(f"[^{_class(_without([(0, sys.maxunicode)], sorted(ranges)))}]")


def _class(ranges: Ranges) -> str:
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in ranges)


@cache
def _script_table() -> tuple[list[int], list[int], list[str]]:
    rows = sorted((start, end, script) for script, text in RANGES.items() for start, end in _ranges(text))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
