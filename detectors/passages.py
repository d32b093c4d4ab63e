"""Lines and passages in another language of Latin script, where single words are too weak evidence (rule `passage`).

Identification costs far more than any other rule, so a passage has to pass cheaper tests first: enough different small
words, not plainly the expected language by its function words, and lingua's quick models.
"""

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
from detectors.language_profile import LanguageProfile
from detectors.language_table import LANGUAGES, common_words
from detectors.lexicon import english_words
from detectors.readings import PHONETIC_LETTER, is_reading, looks_romanised
from detectors.runs import Run
from detectors.script_ranges import RANGES
from detectors.scripts import as_class, basic_latin_class, in_basic_plane, mark_class

LEAST_WORDS = 5
"""Minimum number of words of a passage that is judged; below that identification is guesswork."""
LEAST_SMALL_WORDS = 3
"""Minimum number of different words without a capital: titles, lists of names and "la la la" are not evidence."""
FOREIGN_BELOW = 0.05
"""A passage is foreign if the expected languages together have less than this probability."""
EXPECTED_ABOVE = 0.5
"""A passage is accepted without the accurate models if the quick ones give the expected languages more than this."""
MOST_ROMANISED = 0.8
"""Share of words that could be romanised readings from which on the passage counts as a reading."""
LEAST_COMMON = 0.15
"""Lowest share of function words of the most probable language; names and romanised text have none of them."""
ENGLISH_SHARE = 0.6
"""Share of known English words from which on a passage is English."""
PLAIN_SHARE, PLAIN_LEAD = 0.2, 2
"""Lowest share of a language's function words, and lead in words over every other language, of a passage that is
plainly in this language."""

_LATIN = basic_latin_class()
_LETTERS = f"[{_LATIN}][{_LATIN}{mark_class('Latin')}]*"
_A_LETTER = re.compile(f"[{_LATIN}]")
_WORD = re.compile(f"{_LETTERS}(?:['’-]{_LETTERS})*")
_SENTENCE_MAY_END = re.compile(r"[.!?:;…][\"'”’»)\]]{0,8}\Z")
_LONGEST_ENDING = 16
_SENTENCE_END = re.compile(r"\n|[.!?:;…][\"'”’»)\]]{0,8}\s")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage in another language, from its first foreign word to its end."""

    start: int
    end: int
    """Index one past the last character."""


def first_foreign(exempt: ExemptSpans, position: int, limit: int, is_end: bool) -> tuple[Passage | None, Cursor]:
    """Return the first foreign passage between `position` and `limit`, and a cursor after the judged passages.

    Args:
        exempt: the text and its exempt spans; queried from `position` on.
        position: index at which a passage begins.
        limit: index of the end of what is judged.
        is_end: whether the last passage ends at `limit`; if not, a passage that may continue is left for later.
    """
    text, profile = exempt.text, exempt.profile
    judged = position
    for start, end, closed in _passages(text, profile, position, limit):
        if not (closed or is_end):
            break  # the end of a growing text may be the middle of a passage
        judged = end
        # The plain words first: which of them are exempt is only worth asking of the few passages that are left.
        if not _may_be_foreign(_WORD.findall(text, start, end), profile):
            continue
        words = [run for run in _runs(text, start, end) if not exempt.cover(run) and not _is_sign(run, text, profile)]
        if _is_foreign(words, profile):
            return Passage(_first_word(words, profile), words[-1].end), exempt.cursor_at(end)
    return None, Cursor(limit) if is_end else exempt.cursor_at(judged)


def has_no_passage_at_first_sight(text: str, start: int) -> bool:
    """Return whether too few words from `start` on are unknown for a foreign passage, where English is neutral."""
    unknown = {word for word in _WORD.findall(text, start) if word.islower()} - english_words()
    return len(unknown) <= (1 - ENGLISH_SHARE) * LEAST_SMALL_WORDS


def is_open(text: str, profile: LanguageProfile, cursor: Cursor) -> bool:
    """Return whether a passage at the end of the text may be completed by text that has no foreign letter."""
    if profile.language.is_latin:
        return _SENTENCE_MAY_END.search(text, max(len(text) - _LONGEST_ENDING, 0)) is not None
    return _A_LETTER.search(text, cursor.position) is not None


def _runs(text: str, start: int, end: int) -> Iterator[Run]:
    for match in _WORD.finditer(text, start, end):
        yield Run(match.start(), match.end(), "Latin", match.group())


def _is_sign(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a word belongs to no language: a variable, phonetic symbols, a reading."""
    if len(run.text) == 1 or PHONETIC_LETTER.search(run.text):
        return True
    if profile.language.is_latin or run.text.isascii() or profile.options.readings == "judge":
        return False
    return is_reading(run.text.lower(), run, text, profile)


def _first_word(words: Sequence[Run], profile: LanguageProfile) -> int:
    """Return where a foreign passage begins: at its first lower-case word that the expected language does not have."""
    small = [run for run in words if run.text.islower()]
    known = english_words() if _english_is_expected(profile) else common_words(profile.code)
    return next((run.start for run in small if run.text not in known), small[0].start)


def _passages(text: str, profile: LanguageProfile, start: int, limit: int) -> Iterator[tuple[int, int, bool]]:
    """Yield start, end and whether it is closed, of every passage.

    Passages are the sentences of a text in Latin script, and the Latin stretches of any other text.
    """
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
    """Return the pattern of what ends a Latin stretch: the end of a line or a letter of another script."""
    return re.compile(f"[\n{_other_letters()}]")


@cache
def _stretch() -> re.Pattern[str]:
    """Return the pattern of a Latin stretch, from its first Latin letter to its last."""
    return re.compile(f"[{_LATIN}](?:[^\n{_other_letters()}]*[{_LATIN}])?")


def _other_letters() -> str:
    others = " ".join(ranges for script, ranges in RANGES.items() if script != "Latin")
    return as_class(in_basic_plane(others))


def _may_be_foreign(words: Sequence[str], profile: LanguageProfile) -> bool:
    """Return whether a passage passes the cheap tests: enough words, and not plainly of an expected language."""
    if len(words) < LEAST_WORDS:
        return False
    small = [word for word in words if word.islower()]
    distinct = set(small)
    if len(distinct) < LEAST_SMALL_WORDS:
        return False
    if _english_is_expected(profile) and len(english_words() & distinct) >= ENGLISH_SHARE * len(distinct):
        return False
    if profile.language.is_latin:
        return not _is_plainly(profile.code, small)
    return sum(map(looks_romanised, small)) < MOST_ROMANISED * len(small)


def _is_plainly(code: str, words: Sequence[str]) -> bool:
    """Return whether the words have many function words of the language, and clearly more than of any other."""
    common = Counter(itertools.chain.from_iterable(map(_languages_of().get, words, itertools.repeat(()))))
    own = common.pop(code, 0)
    for close in LANGUAGES[code].indistinguishable_from:
        del common[close]
    return own >= PLAIN_SHARE * len(words) and own >= max(common.values(), default=0) + PLAIN_LEAD


@cache
def _languages_of() -> dict[str, tuple[str, ...]]:
    """Return the languages of each common word."""
    languages: dict[str, tuple[str, ...]] = {}
    for code in LANGUAGES:
        for word in common_words(code):
            languages[word] = (*languages.get(word, ()), code)
    return languages


def _is_foreign(words: Sequence[Run], profile: LanguageProfile) -> bool:
    """Return whether a passage is in a language other than the expected ones, by identification.

    The most probable language also has to be confirmed by its function words: lingua always names some language, even
    for romanised text and lists of names.
    """
    small = [run.text for run in words if run.text.islower()]
    if len(words) < LEAST_WORDS or len(small) < LEAST_SMALL_WORDS:
        return False
    line, expected = " ".join(run.text for run in words), _expected(profile)
    # The quick models rarely take foreign text for the expected language, so only their doubt has to be checked.
    if sum(_confidences(line, quick=True)[code] for code in expected) > EXPECTED_ABOVE:
        return False
    confidences = _confidences(line, quick=False)
    if sum(confidences[code] for code in expected) >= FOREIGN_BELOW:
        return False
    most_probable = max(confidences, key=lambda code: confidences[code])
    all_small = [run.text.lower() for run in words]
    common = _common(all_small, most_probable)
    return common >= max(2, LEAST_COMMON * len(small)) and all(common > _common(all_small, code) for code in expected)


def _common(words: Sequence[str], code: str) -> int:
    """Return how many of the words are function words of the language."""
    return sum(word in common_words(code) for word in words)


def _english_is_expected(profile: LanguageProfile) -> bool:
    return profile.english == "neutral" or profile.code == "en"


@cache
def _expected(profile: LanguageProfile) -> frozenset[str]:
    """Return the languages in which a passage is not a confusion."""
    own = (profile.code, *profile.language.indistinguishable_from) if profile.language.is_latin else ()
    return frozenset(own) | ({"en"} if _english_is_expected(profile) else set())


def _confidences(line: str, quick: bool) -> dict[str, float]:
    """Return the probability of each Latin-script language of the table.

    Args:
        line: the words of the passage.
        quick: whether lingua's small models suffice.
    """
    values = _identifier(quick).compute_language_confidence_values(unicodedata.normalize("NFC", line))
    return {value.language.iso_code_639_1.name.lower(): value.value for value in values}


@cache
def _identifier(quick: bool) -> Any:
    """Return lingua for the Latin-script languages of the table.

    Its quick models take 40 MB of memory, its accurate ones another 400 MB, so neither is loaded before it is needed.
    """
    from lingua import IsoCode639_1, Language, LanguageDetectorBuilder

    codes = [code for code, row in LANGUAGES.items() if row.is_latin]
    chosen = [Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper())) for code in codes]
    builder = LanguageDetectorBuilder.from_languages(*chosen)
    return (builder.with_low_accuracy_mode() if quick else builder).build()
