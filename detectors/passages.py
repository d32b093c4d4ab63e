"""Lines and passages in another language of Latin script, where single words tell too little (tier `passage`)."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from detectors.exemptions import Cursor, ExemptSpans
from detectors.languages import LANGUAGES, common_words
from detectors.lexicon import english_words
from detectors.profile import Profile
from detectors.readings import PHONETIC, is_reading, looks_romanised
from detectors.runs import Run
from detectors.script_ranges import RANGES
from detectors.scripts import as_class, basic_latin_class, in_basic_plane, mark_class

LEAST_WORDS = 5
"""Below that identification is guesswork."""
LEAST_SMALL_WORDS = 3
"""Different words without a capital: titles, lists of names and "la la la" are no evidence."""
FOREIGN_BELOW = 0.05
"""A passage is foreign if the languages that are at home have less than this probability together."""
HOME_ABOVE = 0.5
"""The quick look is believed if it gives them more than that."""
MOST_ROMANISED = 0.8
"""Share of words that could be romanised readings above which a passage is one."""
LEAST_COMMON = 0.15
"""Share of the likeliest language's common words that a passage has to have: names and romanised text have none."""
ENGLISH_SHARE = 0.6
"""Share of known English words above which a passage is English."""
PLAIN_SHARE, PLAIN_LEAD = 0.2, 2
"""Share of its common words, and lead over every other language's, that make a passage plainly of a language."""

_LATIN = basic_latin_class()
_LETTERS = f"[{_LATIN}][{_LATIN}{mark_class('Latin')}]*"
_A_LETTER = re.compile(f"[{_LATIN}]")
_WORD = re.compile(f"{_LETTERS}(?:['’-]{_LETTERS})*")
_SENTENCE_MAY_END = re.compile(r"[.!?:;…][\"'”’»)\]]{0,8}\Z")
_LONGEST_ENDING = 16
_SENTENCE_END = re.compile(r"\n|[.!?:;…][\"'”’»)\]]{0,8}\s")


@dataclass(frozen=True, slots=True)
class Passage:
    """A foreign one: from its first word that is not exempt to its end."""

    start: int
    end: int


def first_foreign(exempt: ExemptSpans, position: int, limit: int, is_end: bool) -> tuple[Passage | None, Cursor]:
    """The first foreign passage between `position` and `limit`, and a cursor behind the passages that were judged.

    Args:
        exempt: knows the text; asked from `position` on.
        is_end: whether the text ends at `limit`, as far as passages go; otherwise one that may go on is left for later.
    """
    text, profile = exempt.text, exempt.profile
    judged = position
    for start, end, closed in _passages(text, profile, position, limit):
        if not (closed or is_end):
            break
        judged = end
        if not _may_be_foreign(_WORD.findall(text, start, end), profile):
            continue
        words = [run for run in _runs(text, start, end) if not exempt.cover(run) and not _is_sign(run, text, profile)]
        if _is_foreign(words, profile):
            return Passage(_first_word(words, profile), words[-1].end), exempt.cursor_at(end)
    return None, Cursor(limit) if is_end else exempt.cursor_at(judged)


def has_none_at_first_sight(text: str, start: int, profile: Profile) -> bool:
    """Whether too few words from `start` on are unknown to English for a foreign passage, where English is at home."""
    unknown = {word for word in _WORD.findall(text, start) if word.islower()} - english_words()
    return len(unknown) <= (1 - ENGLISH_SHARE) * LEAST_SMALL_WORDS


def is_open(text: str, profile: Profile, cursor: Cursor) -> bool:
    """Whether a passage at the end of the text may be closed by text without letters to look at."""
    if profile.language.is_latin:
        return _SENTENCE_MAY_END.search(text, max(len(text) - _LONGEST_ENDING, 0)) is not None
    return _A_LETTER.search(text, cursor.position) is not None


def _runs(text: str, start: int, end: int) -> Iterator[Run]:
    for match in _WORD.finditer(text, start, end):
        yield Run(match.start(), match.end(), "Latin", match.group())


def _is_sign(run: Run, text: str, profile: Profile) -> bool:
    """Whether a word stands for itself or its sound in every language: a variable, phonetic symbols, a reading."""
    if len(run.text) == 1 or PHONETIC.search(run.text):
        return True
    if profile.language.is_latin or run.text.isascii() or profile.options.readings == "judge":
        return False
    return is_reading(run.text.lower(), run, text, profile)


def _first_word(words: Sequence[Run], profile: Profile) -> int:
    """Where a foreign passage begins: at its first small word, or beyond the words of home that lead to it."""
    small = [run for run in words if run.text.islower()]
    known = english_words() if _english_is_home(profile) else common_words(profile.code)
    return next((run.start for run in small if run.text not in known), small[0].start)


def _passages(text: str, profile: Profile, start: int, limit: int) -> Iterator[tuple[int, int, bool]]:
    """Start, end and whether it is closed of every passage: sentences of a Latin text, Latin stretches of another."""
    if profile.language.is_latin:
        for match in _SENTENCE_END.finditer(text, start, limit):
            yield start, match.end(), True
            start = match.end()
        if start < limit:
            yield start, limit, False
        return
    boundary = _boundary()
    for match in _stretch().finditer(text, start, limit):
        yield match.start(), match.end(), boundary.search(text, match.end(), limit) is not None


@cache
def _boundary() -> re.Pattern[str]:
    """What ends a Latin stretch: a line's end or a letter of another script."""
    return re.compile(f"[\n{_other_letters()}]")


@cache
def _stretch() -> re.Pattern[str]:
    return re.compile(f"[{_LATIN}](?:[^\n{_other_letters()}]*[{_LATIN}])?")


def _other_letters() -> str:
    others = " ".join(ranges for script, ranges in RANGES.items() if script != "Latin")
    return as_class(in_basic_plane(others))


def _may_be_foreign(words: Sequence[str], profile: Profile) -> bool:
    """What costs little to ask first: enough words, and neither plainly English nor plainly the language itself."""
    if len(words) < LEAST_WORDS:
        return False
    small = [word for word in words if word.islower()]
    distinct = set(small)
    if len(distinct) < LEAST_SMALL_WORDS:
        return False
    if _english_is_home(profile) and len(english_words() & distinct) >= ENGLISH_SHARE * len(distinct):
        return False
    if profile.language.is_latin:
        return not _is_plainly(profile.code, small)
    return sum(map(looks_romanised, small)) < MOST_ROMANISED * len(small)


def _is_plainly(code: str, words: Sequence[str]) -> bool:
    """Whether the language's common words hold these words together, and those of no other language as well."""
    common = Counter(itertools.chain.from_iterable(map(_languages_of().get, words, itertools.repeat(()))))
    own = common.pop(code, 0)
    for near in LANGUAGES[code].not_told_from:
        del common[near]
    return own >= PLAIN_SHARE * len(words) and own >= max(common.values(), default=0) + PLAIN_LEAD


@cache
def _languages_of() -> dict[str, tuple[str, ...]]:
    """The languages of each common word."""
    found: dict[str, tuple[str, ...]] = {}
    for code in LANGUAGES:
        for word in common_words(code):
            found[word] = (*found.get(word, ()), code)
    return found


def _is_foreign(words: Sequence[Run], profile: Profile) -> bool:
    small = [run.text for run in words if run.text.islower()]
    if len(words) < LEAST_WORDS or len(small) < LEAST_SMALL_WORDS:
        return False
    line, home = " ".join(run.text for run in words), _home(profile)
    if sum(_confidences(line, quick=True)[code] for code in home) > HOME_ABOVE:
        return False
    confidences = _confidences(line, quick=False)
    if sum(confidences[code] for code in home) >= FOREIGN_BELOW:
        return False
    likeliest = max(confidences, key=lambda code: confidences[code])
    all_small = [run.text.lower() for run in words]
    common = _common(all_small, likeliest)
    return common >= max(2, LEAST_COMMON * len(small)) and all(common > _common(all_small, code) for code in home)


def _common(words: Sequence[str], code: str) -> int:
    return sum(word in common_words(code) for word in words)


def _english_is_home(profile: Profile) -> bool:
    return profile.english == "neutral" or profile.code == "en"


@cache
def _home(profile: Profile) -> frozenset[str]:
    """Languages in which a passage is no confusion."""
    own = (profile.code, *profile.language.not_told_from) if profile.language.is_latin else ()
    return frozenset(own) | ({"en"} if _english_is_home(profile) else set())


def _confidences(line: str, quick: bool) -> dict[str, float]:
    """Probability of each Latin-script language of the table."""
    values = _identifier(quick).compute_language_confidence_values(unicodedata.normalize("NFC", line))
    return {value.language.iso_code_639_1.name.lower(): value.value for value in values}


@cache
def _identifier(quick: bool) -> Any:
    """lingua for the Latin-script languages of the table: 40 MB for the quick look, 400 MB more for the whole one."""
    from lingua import IsoCode639_1, Language, LanguageDetectorBuilder

    codes = [code for code, row in LANGUAGES.items() if row.is_latin]
    chosen = [Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper())) for code in codes]
    builder = LanguageDetectorBuilder.from_languages(*chosen)
    return (builder.with_low_accuracy_mode() if quick else builder).build()
