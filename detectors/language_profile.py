"""What is known about one language under one setting: which letters, scripts and words belong to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Literal

from detectors.chinese import tables_version
from detectors.errors import MissingExtraError
from detectors.language_table import LANGUAGES, Language
from detectors.lexicon import foreign_words
from detectors.options import Options
from detectors.script_ranges import RANGES
from detectors.scripts import (
    COMBINING,
    Ranges,
    as_class,
    in_basic_plane,
    ranges_of,
    search_class,
    subtract,
)

English = Literal["neutral", "confusion"]
"""How English words count in a text of another language: as neither target nor confusion, or as confusion."""

RULES_VERSION = "6"
"""Version of the rules: it is increased with every change that can change a verdict. Run folders hold it, and a run is
only resumed under the version that it was started with."""
WORD_LISTS = "wordfreq"
"""The library that has the word frequencies by which words are told apart; the lists are part of its package."""
EXTRA = "pip install 'tlpo-ray[languages]'"

# These letters are never evidence for a language: ordinals, IPA and spacing modifiers, phonetic extensions, super- and
# subscripts, Ohm, Kelvin and Angstrom signs, turned signs, Roman numerals, 々 〇 and counting rods, invisible Hangul
# fillers.
_EXEMPT = (
    "AA BA 250-2B8 2E0-2E4 1D00-1DBF 2071 207F 2090-209F 2126 212A-212B 2132 214E 2160-2188 3005 3007 3021-3029 "
    "3038-303B 115F-1160 3164 FFA0 10780-10785 10787-107B0 107B2-107BF 1DF00-1DF81 1DF90-1DF96"
)
_FULL_WIDTH_LATIN = "FF21-FF3A FF41-FF5A"
_LIGATURES = "FB00-FB06"
# The characters that \s matches, spelled out: `re` then compiles a class that contains them to a single table.
_SPACES = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RARE_HAN = "\U00020000-\U0003ffff"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanguageProfile:
    """One language under one setting, as tables and compiled patterns.

    Built by `build_profile`, once per language and setting. Profiles are compared by identity, so that they are cheap
    keys of the caches that hold what is derived from them.
    """

    code: str
    """Code of the language table, e.g. "ko" or "zh-Hant"."""
    language: Language
    """The language's row in the language table."""
    english: English
    options: Options
    checks_passages: bool
    """Whether lines and passages in other languages of Latin script are searched for."""
    foreign_letters: re.Pattern[str] = field(repr=False)
    """Matches one letter that the language does not have, the beginning of every check."""
    beyond_ascii: re.Pattern[str] = field(repr=False)
    """Matches one foreign letter other than a plain Latin one."""
    foreign_to_formulas: Ranges = field(repr=False)
    """Foreign letters that are neither Latin nor Greek."""
    foreign_words: frozenset[str] = field(repr=False)
    """Plain words that are confusion by themselves (rule `word`)."""
    non_word: re.Pattern[str] = field(repr=False)
    """Matches a stretch between white space that has no letter of the language."""

    @property
    def version(self) -> str:
        """Version of everything that decides a verdict beside the profile's settings."""
        parts = [RULES_VERSION]
        if self.checks_passages:
            parts.append(f"{WORD_LISTS}-{_lists_version()}")
        if self.language.letter_by_letter:
            parts.append(tables_version())
        return "+".join(parts)

    @property
    def unchecked(self) -> str | None:
        """What could be checked and is not, as one line for the user; None if everything is checked."""
        if self.checks_passages or (not self.language.is_latin and self.english == "confusion"):
            return None
        what = "lines" if self.language.is_latin else "passages of plain letters"
        remedy = "passages is off" if self.options.passages == "off" else EXTRA
        return f"{what} in another language of Latin script are not checked: {remedy}"


@cache
def build_profile(code: str, english: English, options: Options) -> LanguageProfile:
    """Return the profile of a language; the same object for the same arguments.

    Raises:
        MissingExtraError: `passages="on"` and wordfreq is not installed; or the language needs tables that are not.
    """
    row = LANGUAGES[code]
    foreign_scripts = [RANGES[script] for script in RANGES if script not in row.scripts]
    # A combining accent belongs to the letter before it, so it is evidence only where Latin letters are foreign.
    marks = "" if row.is_latin else COMBINING
    exempt = _EXEMPT + (f" {_FULL_WIDTH_LATIN} {_LIGATURES}" if english == "neutral" else "")
    foreign = subtract(ranges_of(f"{' '.join(foreign_scripts)} {marks}"), ranges_of(exempt)) + row.foreign_ranges()
    checks_passages = _checks_passages(row, english, options)
    letters = "".join(as_class(in_basic_plane(RANGES[script])) for script in row.scripts)
    if "Han" in row.scripts:
        letters += _RARE_HAN
    return LanguageProfile(
        code=code,
        language=row,
        english=english,
        options=options,
        checks_passages=checks_passages,
        foreign_letters=search_class(foreign),
        beyond_ascii=search_class(subtract(foreign, [(0, 0x7F)])),
        foreign_to_formulas=subtract(foreign, ranges_of(f"{RANGES['Latin']} {RANGES['Greek']} {COMBINING}")),
        foreign_words=_foreign_words(row, english, options),
        # The pattern begins with a class, not with a look-behind: `re` then skips letters by a table.
        non_word=re.compile(rf"[^{_SPACES}{letters}](?<!\S[\s\S])[^{_SPACES}{letters}]*(?!\S)"),
    )


def _foreign_words(row: Language, english: English, options: Options) -> frozenset[str]:
    if row.is_latin or english == "confusion" or not options.words:
        return frozenset()
    # Romanised Hindi, Arabic and Russian are full of words that Indonesian and Turkish have borrowed from them.
    related = ("Arabic", "Bengali", "Cyrillic", "Devanagari")
    return foreign_words("Indonesian", "Turkish") if row.scripts[0] in related else foreign_words()


def _checks_passages(row: Language, english: English, options: Options) -> bool:
    installed = find_spec("wordfreq") is not None
    if options.passages == "on" and not installed:
        raise MissingExtraError(f"passages are checked by {WORD_LISTS}, which is not installed: {EXTRA}")
    # Where English is confusion, every Latin word in a text of another script is judged by itself.
    needed = row.is_latin or english == "neutral"
    return needed and installed and options.passages != "off"


@cache
def _lists_version() -> str:
    from importlib import metadata  # importing it takes longer than the rest of the package together

    return metadata.version(WORD_LISTS)
