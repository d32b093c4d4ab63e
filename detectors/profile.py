"""What a detector knows about one language under one setting: which letters, scripts and readings are at home in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from detectors.errors import MissingExtraError, SettingError
from detectors.languages import Language, language_row
from detectors.lexicon import foreign_words
from detectors.options import Options, checked_options
from detectors.script_ranges import RANGES
from detectors.scripts import (
    COMBINING,
    Ranges,
    as_class,
    in_basic_plane,
    ranges_of,
    ranges_of_letters,
    search_class,
    without,
)

if TYPE_CHECKING:
    from detectors.find import Confusion

English = Literal["neutral", "confusion"]

# Changes with anything that changes a verdict.
RULES_VERSION = "2"
IDENTIFIER = "lingua-language-detector"
"""The library that identifies the language of a line; its models are in its package."""
EXTRA = "pip install 'tlpo-ray[languages]'"

# Never evidence for a language: ordinals, IPA and spacing modifiers, phonetic extensions, super- and subscripts,
# Ohm, Kelvin and Angstrom signs, turned signs, Roman numerals, 々 〇 and counting rods, invisible Hangul fillers.
_EXEMPT = (
    "AA BA 250-2B8 2E0-2E4 1D00-1DBF 2071 207F 2090-209F 2126 212A-212B 2132 214E 2160-2188 3005 3007 3021-3029 "
    "3038-303B 115F-1160 3164 FFA0 10780-10785 10787-107B0 107B2-107BF 1DF00-1DF81 1DF90-1DF96"
)
_FULL_WIDTH_LATIN = "FF21-FF3A FF41-FF5A"
_LIGATURES = "FB00-FB06"
# What \s is, spelled so that a class with it is one table.
_SPACES = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RARE_HAN = "\U00020000-\U0003ffff"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """A language under one setting. Built by `profile`, compared by identity; a `Detector`."""

    code: str
    language: Language
    english: English
    options: Options
    checks_passages: bool
    """Whether lines and passages in other languages of Latin script are looked for."""
    suspects: re.Pattern[str] = field(repr=False)
    """One character that has to be looked at: a letter that is not the language's own."""
    attention: re.Pattern[str] = field(repr=False)
    """One character that may settle a verdict: a suspect or, where lines are judged, what ends one."""
    beyond_ascii: re.Pattern[str] = field(repr=False)
    """One suspect that is not a plain Latin letter."""
    foreign_to_formulas: Ranges = field(repr=False)
    """Suspects that are neither Latin nor Greek."""
    foreign_words: frozenset[str] = field(repr=False)
    """Plain words that convict; tier `word`."""
    wordless: re.Pattern[str] = field(repr=False)
    """A stretch between white space without a letter of the language."""

    @property
    def version(self) -> str:
        """What decides a verdict beside this profile's settings: goes into every candidate group."""
        return f"{RULES_VERSION}+{IDENTIFIER}-{_identifier_version()}" if self.checks_passages else RULES_VERSION

    @property
    def unchecked(self) -> str | None:
        """What this profile does not look for although it could; None if it looks for everything it can."""
        if self.checks_passages or (not self.language.is_latin and self.english == "confusion"):
            return None
        what = "lines" if self.language.is_latin else "passages of plain letters"
        remedy = "passages is off" if self.options.passages == "off" else EXTRA
        return f"{what} in another language of Latin script are not checked: {remedy}"

    def find(self, text: str, prefix: str = "", final: bool = True) -> Confusion | None:
        """See `detectors.find`."""
        from detectors.find import find  # which needs profiles

        return find(text, self, prefix, final)

    def __reduce__(self) -> tuple[object, tuple[str, str, Options]]:
        return _built, (self.code, self.english, self.options)


def profile(language: str, english: English = "neutral", **options: Any) -> Profile:
    """The detector profile of a language.

    Args:
        language: one of `languages()`, e.g. "ko".
        english: "neutral": English is neither target nor confusion; "confusion": any English is confusion.
        options: fields of `Options`.

    Raises:
        UnknownLanguageError: there is no detector for the language.
        SettingError: `english` or an option is none.
        MissingExtraError: `passages="on"` without lingua.
    """
    language_row(language)  # or raise
    if english not in get_args(English):
        raise SettingError(f"English setting {english!r}: expected neutral or confusion")
    return _built(language, english, checked_options(options))


@cache
def _built(code: str, english: English, options: Options) -> Profile:
    row = language_row(code)
    foreign = [RANGES[script] for script in RANGES if script not in row.scripts]
    # An accent of its own belongs to a letter of the language's script, or to a Latin one.
    marks = "" if row.is_latin else COMBINING
    exempt = _EXEMPT + (f" {_FULL_WIDTH_LATIN} {_LIGATURES}" if english == "neutral" else "")
    suspects = without(ranges_of(f"{' '.join(foreign)} {marks}"), ranges_of(exempt)) + row.foreign_ranges()
    checks_passages = _checks_passages(row, english, options)
    endings = ranges_of_letters("\n.!?:;…" if row.is_latin and checks_passages else "")
    letters = "".join(as_class(in_basic_plane(RANGES[script])) for script in row.scripts)
    if "Han" in row.scripts:
        letters += _RARE_HAN
    return Profile(
        code=code,
        language=row,
        english=english,
        options=options,
        checks_passages=checks_passages,
        suspects=search_class(suspects),
        attention=search_class(suspects + endings),
        beyond_ascii=search_class(without(suspects, [(0, 0x7F)])),
        foreign_to_formulas=without(suspects, ranges_of(f"{RANGES['Latin']} {RANGES['Greek']} {COMBINING}")),
        foreign_words=_foreign_words(row, english, options),
        # Begins with a class, so that `re` passes over letters by a table.
        wordless=re.compile(rf"[^{_SPACES}{letters}](?<!\S[\s\S])[^{_SPACES}{letters}]*(?!\S)"),
    )


def _foreign_words(row: Language, english: English, options: Options) -> frozenset[str]:
    if row.is_latin or english == "confusion" or not options.words:
        return frozenset()
    # Romanised Hindi, Arabic and Russian are full of words that Indonesian and Turkish have taken from them.
    related = ("Arabic", "Bengali", "Cyrillic", "Devanagari")
    return foreign_words("Indonesian", "Turkish") if row.scripts[0] in related else foreign_words()


def _checks_passages(row: Language, english: English, options: Options) -> bool:
    installed = find_spec("lingua") is not None
    if options.passages == "on" and not installed:
        raise MissingExtraError(f"passages are checked by {IDENTIFIER}, which is not installed: {EXTRA}")
    # Where any English is confusion, every Latin word in a text of another script is judged by itself.
    needed = row.is_latin or english == "neutral"
    return needed and installed and options.passages != "off"


@cache
def _identifier_version() -> str:
    from importlib import metadata  # takes longer than all the rest of the package

    return metadata.version(IDENTIFIER)
