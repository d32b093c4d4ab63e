"""Which words are exempt although their letters are foreign: names, variables, list marks, English, readings.

A word is exempt by its own letters and its nearest neighbours. What is exempt by its delimiters, whatever words it
contains, is in `detectors/exempt_spans.py`.
"""

from __future__ import annotations

import re
import unicodedata

from detectors.language_profile import LanguageProfile
from detectors.lexicon import (
    ARTICLES,
    ARTICLES_IN_NAMES,
    ENGLISH_PARTICLES,
    ENGLISH_WITH_ACCENT,
    NAME_PARTICLES,
    begins_english,
    english_words,
    longest_phrase,
    phrases_with,
)
from detectors.readings import PHONETIC_LETTER, is_reading
from detectors.runs import Run
from detectors.scripts import script_of
from detectors.units import is_unit

_LIST_MARK = re.compile(r"(?:x{0,3}(?:ix|iv|v?i{1,3}|v)|x{1,3})(?=[).])")
_ARTICLE_BEFORE = re.compile(r"[A-Za-z'’][A-Za-z],? \Z")
_ARTICLE_AFTER = re.compile(r" [A-Za-z]{2}")
_LONGEST_BEFORE_ARTICLE = 4
_ARTICLE_LOOKAHEAD = 3
_ARTICLE_WORD_BEFORE = re.compile(r"(?<![A-Za-z0-9'’_-])([a-z]+) \Z")
_LONGEST_ARTICLE = 8
_LEAST_AFTER_ARTICLE = 3
_MAYBE_UNFINISHED = 4
"""Letters up to which a word at the end of a text may be the beginning of any other word."""
_PARTICLE = f"(?:{'|'.join(sorted(NAME_PARTICLES - ENGLISH_PARTICLES))})"
_ARTICLE = f"(?:{'|'.join(sorted(ARTICLES_IN_NAMES))})"
_ANOTHER = "(?<!und )(?<!oder )"
"""Behind these words and an article another thing is meant, not the same name: Mann und die Frau."""
_ELISION = "(?:[A-Za-zÀ-ɏ]{1,5}['’])"
_CAPITALISED = rf"(?<![A-Za-zÀ-ɏ]){_ELISION}?([A-ZÀ-ÖØ-Þ][\w’'-]*),? "
_BEFORE_PARTICLE = re.compile(rf"{_CAPITALISED}(?:{_PARTICLE} ){{0,2}}\Z")
_BEFORE_ARTICLE = re.compile(rf"{_CAPITALISED}(?:{_PARTICLE} ){{1,3}}{_ANOTHER}\Z")
_NAME_AFTER = re.compile(rf" (?:{_PARTICLE} ){{0,2}}(?:{_ANOTHER}{_ARTICLE} )?{_ELISION}?[A-ZÀ-ÖØ-Þ]")
_MAYBE_NAME_AFTER = re.compile(rf"(?: {_PARTICLE}){{0,2}}(?: {_ARTICLE})?(?: [A-Za-zÀ-ɏ]{{0,7}}['’]?)?")
_LONGEST_NAME = 48
_IS_PARTICLE, _IS_ARTICLE = re.compile(_PARTICLE), re.compile(_ARTICLE)


def is_settled(run: Run, text: str, settled: int) -> bool:
    """Return whether no text after `text` can change the verdict on the run.

    Args:
        run: a Latin or Greek word.
        text: the text so far.
        settled: number of characters at its beginning that are settled, see `unsettled_from`.
    """
    ahead = _ARTICLE_LOOKAHEAD if run.text == "a" else 0
    if run.script == "Latin" and (_may_become_name(run, text) or _may_become_phrase(run, text)):
        return False
    return run.end < settled and run.end + ahead <= len(text)


def is_exempt_word(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a finished Latin or Greek run is exempt by its own letters and its nearest neighbours."""
    options = profile.options
    if run.text.lower() in options.allowed:
        return True
    if run.script == "Greek":
        return len(run.text) <= 2  # a variable
    word = _plain(run.text)
    if any(char.isupper() for char in word):
        if options.capitalised == "exempt":
            return True
        word = word.lower()
    if PHONETIC_LETTER.search(run.text):
        return True
    if not word.isascii() and _is_glued(run, text, both=True):
        return False
    if profile.english == "confusion" and (_is_in_name(word, run, text) or is_unit(word, run.start, run.end, text)):
        return True
    if sum(char.isalpha() for char in word) == 1:
        return profile.english == "neutral" or not _is_article(run, text)
    if _LIST_MARK.match(text, run.start) and text[max(run.start - 1, 0)] in " \n\t(" + run.text[0]:
        return True
    if profile.english == "neutral" and _is_english(word, run, text, profile):
        return True
    return options.readings == "exempt" and is_reading(word, run, text, profile)


def _plain(word: str) -> str:
    """Return a word with its letters, apostrophes and hyphens in their usual form."""
    return unicodedata.normalize("NFKC", word).replace("’", "'").replace("‑", "-").replace("‐", "-")


def is_exempt_hanja(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether Chinese characters in brackets after a Korean word are exempt here: 대한민국(大韓民國)."""
    return (
        profile.options.hanja_in_brackets == "exempt"
        and run.script == "Han"
        and profile.code == "ko"
        and run.start >= 2
        and text[run.start - 1] in "(（[〔"
        and "가" <= text[run.start - 2] <= "힣"
    )


def _is_article(run: Run, text: str) -> bool:
    """Return whether a single letter is the English article, not a variable or a list mark."""
    before = _ARTICLE_BEFORE.search(text, max(run.start - _LONGEST_BEFORE_ARTICLE, 0), run.start)
    return run.text == "a" and bool(before or _ARTICLE_AFTER.match(text, run.end))


def _is_glued(run: Run, text: str, both: bool) -> bool:
    """Return whether a letter of another script is directly before the run and, if `both`, also directly after it."""
    before = run.start > 0 and script_of(text[run.start - 1]) not in ("Common", "Latin")
    return before and (not both or (run.end < len(text) and script_of(text[run.end]) not in ("Common", "Latin")))


def _is_english(word: str, run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a lower-case word counts as English: every plain word does that is not known to be foreign."""
    if word in ENGLISH_WITH_ACCENT or _is_in_name(word, run, text) or _is_in_phrase(word, run, text):
        return True
    if not word.isascii():
        return False
    if not is_foreign_word(word, run.start, text, profile):
        return True
    # A fragment inside a word of another script is not a word.
    if _is_glued(run, text, both=run.end < len(text)):
        return True
    # The end of a text may be the middle of a word: "und" of "under".
    return run.end == len(text) and (len(word) <= _MAYBE_UNFINISHED or begins_english(word))


def is_foreign_word(word: str, start: int, text: str, profile: LanguageProfile) -> bool:
    """Return whether a plain word is foreign: known to be, or not known to be English and after a foreign article."""
    if word in profile.foreign_words:
        return True
    if not profile.foreign_words or not word.islower() or len(word) < _LEAST_AFTER_ARTICLE or word in english_words():
        return False
    article = _ARTICLE_WORD_BEFORE.search(text, max(start - _LONGEST_ARTICLE, 0), start)
    return article is not None and article[1] in ARTICLES


def _is_in_name(word: str, run: Run, text: str) -> bool:
    """Return whether a word is the particle of a name: Piero *della* Francesca, Instituto *para la* Evaluación."""
    return _follows_name(word, run, text) and _NAME_AFTER.match(text, run.end) is not None


def _may_become_name(run: Run, text: str) -> bool:
    """Return whether a capitalised word behind a text would make the word at its end the particle of a name."""
    return _MAYBE_NAME_AFTER.fullmatch(text, run.end) is not None and _follows_name(run.text, run, text)


def _follows_name(word: str, run: Run, text: str) -> bool:
    """Return whether a word may be the particle of a name by what is before it."""
    if _IS_PARTICLE.fullmatch(word) is not None:
        pattern = _BEFORE_PARTICLE
    elif _IS_ARTICLE.fullmatch(word) is not None:
        pattern = _BEFORE_ARTICLE
    else:
        return False
    before = pattern.search(text, max(run.start - _LONGEST_NAME, 0), run.start)
    # A sentence may begin with a small word: "Mit dem Aufkommen".
    return before is not None and before[1].lower() not in NAME_PARTICLES


def _is_in_phrase(word: str, run: Run, text: str) -> bool:
    """Return whether a word stands in a phrase that dictionaries of English have: *raison d'être*."""
    return any(
        _follows(run, text, before)
        and _plain(text[run.end : run.end + len(after)]).lower() == after
        # A particle of another script may be glued to it.
        and script_of(text[run.end + len(after) : run.end + len(after) + 1] or " ") != "Latin"
        for before, after in phrases_with(word)
    )


def _may_become_phrase(run: Run, text: str) -> bool:
    """Return whether a word stands at the end of a text that has the beginning of such a phrase."""
    rest = _plain(text[run.end : run.end + longest_phrase()]).lower()
    return any(
        len(rest) <= len(after) and after.startswith(rest) and _follows(run, text, before)
        for before, after in phrases_with(_plain(run.text))
    )


def _follows(run: Run, text: str, before: str) -> bool:
    return _plain(text[max(run.start - len(before), 0) : run.start]).lower() == before
