"""How strongly a word speaks for one language of Latin script against another, by the word frequencies of wordfreq.

A word's evidence is the logarithm (base 10) of how much more frequent it is in the other language than in the expected
ones. Single words are weak evidence, but evidence of successive words adds up (`detectors/passages.py`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from operator import truediv
from typing import TypeVar

from detectors.language_table import LANGUAGES, common_words

ELSEWHERE = ("ca", "fil", "is", "lt", "lv", "nb", "sh", "sk", "sl")
"""Languages of Latin script that are no rows of the language table and may still turn up in an answer."""
STRONGEST = 2.5
"""Largest evidence of a word: one word, however rare in the expected language, does not decide alone."""
DOUBT = 0.2
"""Evidence that is discounted from every word for another language: loan words and names are everywhere."""
DECISIVE_ENGLISH, DECISIVE = 3.5, 6.5
"""Summed evidence, in powers of ten, from which on a passage is English, or another language. Other languages have lent
phrases and names of works to each other, and to English."""
UNKNOWN = 2.0
"""Frequency of a word that is not in a list, on the Zipf scale; the least frequent words of the lists have 3."""
WITHOUT_LIST = 3.7
"""The same in a text of a language without a list, of which only function words are known: it may have any word."""
FUNCTION_WORD = 6.3
"""Frequency of those function words."""
MOST_WORDS = 50_000
"""Number of different words after which a table begins anew: about 60 MB."""
MIXED_IN = 10**-2.2
"""Share of English in the texts from which the lists of other languages were made: "the" is in all of them."""
LETTERS_OF_THEIR_OWN = frozenset("aàeéèiíoóuúyæåöńǹ")
"""Single letters that are words; all others are variables, list marks and initials."""

CAPITAL_DOUBT = 0.5
"""Evidence that is discounted from a capitalised word, which may be a name."""
NO_NAME = 5.8
"""Frequency from which on a word is certainly no name: the, in, las."""
INSIDE_WEIGHT = 0.5
"""Weight of a capitalised word inside a sentence, which is a name more often than not."""
CAPITAL_I = 1.5
"""How much less frequent a capital I is than a small one, in other languages than English."""

Value = TypeVar("Value")

_COMMA_BELOW = str.maketrans("şţ", "șț")
"""Romanian letters as they are typed on a Turkish keyboard, and as they are."""
_PART = re.compile("['-]")
_ELIDED = re.compile("[a-z]{1,5}['’][A-ZÀ-ÖØ-Þ]")
_ENGLISH_I = re.compile(r"I(?:['’](?:m|ve|d|ll))?\Z")


class Memo(dict[str, Value]):
    """Values by word, each made when it is first looked up.

    Args:
        make: returns the value of a word.
    """

    def __init__(self, make: Callable[[str], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, word: str) -> Value:
        value = self._make(word)
        self[word] = value
        return value


class WordEvidence:
    """Evidence of words against the expected languages, one number for each other language; made as words turn up.

    Args:
        expected: codes of the languages in which a text is not confused.
        others: codes of the languages that are told from them.
    """

    def __init__(self, expected: tuple[str, ...], others: tuple[str, ...]) -> None:
        self._expected = expected
        self.others = others
        self.none = (0.0,) * len(others)
        """Evidence of a word that belongs to no language."""
        self.decisive = tuple(DECISIVE_ENGLISH if code == "en" else DECISIVE for code in others)
        """Evidence that decides for each language."""
        self.anywhere = Memo(self._anywhere)
        """Evidence of each word, wherever it is."""
        self.at_start = Memo(self._at_start)
        """The same of a capitalised word at the beginning of a sentence, where it may be a name."""
        self.inside = Memo(self._inside)
        """The same of a capitalised word inside a sentence, which is a name more often than not."""
        self.most = Memo(self._most)
        """Largest evidence of each word for any other language, as a share of what decides for it, wherever it is."""

    @cached_property
    def _least(self) -> dict[str, float]:
        """Frequency of a word that is not known, by language. The lists are not read before there is a word."""
        unlisted = WITHOUT_LIST if any(code not in _lists() for code in self._expected) else UNKNOWN
        return {code: UNKNOWN if code in _lists() else unlisted for code in (*self._expected, *self.others)}

    def _anywhere(self, written: str) -> tuple[float, ...]:
        if len(self.anywhere) >= MOST_WORDS:
            for memo in (self.anywhere, self.at_start, self.inside, self.most):
                memo.clear()
        word = _normalised(written)
        if len(word) == 1 and word not in LETTERS_OF_THEIR_OWN:
            return self.none
        expected = max(max(frequency(word, code), self._least[code]) for code in self._expected)
        if is_english_i(written) and "en" not in self._expected:
            expected = max(expected - CAPITAL_I, UNKNOWN)
        return tuple(_discounted(max(frequency(word, code), self._least[code]) - expected) for code in self.others)

    def _at_start(self, word: str) -> tuple[float, ...]:
        doubts = (0.0 if frequency(_normalised(word), code) >= NO_NAME else CAPITAL_DOUBT for code in self.others)
        return tuple(
            max(value - doubt, 0.0) if value > 0 else value
            for value, doubt in zip(self.anywhere[word], doubts, strict=True)
        )

    def _inside(self, word: str) -> tuple[float, ...]:
        return tuple(
            INSIDE_WEIGHT * (max(value - CAPITAL_DOUBT, 0.0) if value > 0 else value) for value in self.anywhere[word]
        )

    def _most(self, word: str) -> float:
        capital = is_capitalised(word)
        evidence = self.at_start[word] if capital else self.anywhere[word]
        most: float = max(map(truediv, evidence, self.decisive))
        # Inside a sentence, a capitalised word also counts less for the expected language.
        return most * INSIDE_WEIGHT if most < 0 and capital else most


def is_english_i(word: str) -> bool:
    """Return whether a word is the English pronoun, the only one that is capitalised: I, I'm."""
    return _ENGLISH_I.match(word) is not None


def is_capitalised(word: str) -> bool:
    """Return whether a word may be a name by its first letter, or by the one behind an elided article: l'Éducation."""
    return (word[0].isupper() and not is_english_i(word)) or _ELIDED.match(word) is not None


@cache
def word_evidence(code: str, english: bool) -> WordEvidence:
    """Return the evidence table of a text.

    Args:
        code: language of the text; one that is not written in Latin script expects no Latin words but English ones.
        english: whether English is expected, too.
    """
    row = LANGUAGES[code]
    own = (code, *row.indistinguishable_from) if row.is_latin else ()
    expected = (*own, *(("en",) if english and "en" not in own else ()))
    latin = (*(other for other in LANGUAGES if LANGUAGES[other].is_latin), *(ELSEWHERE if row.is_latin else ()))
    return WordEvidence(expected, tuple(other for other in latin if other not in expected))


def frequency(word: str, code: str) -> float:
    """Return how frequent a word is in a language, on the Zipf scale: 3 is once, 6 a thousand times per million words.

    A word with an apostrophe or a hyphen that is in no list is as frequent as its parts on average: "d'avoir".
    """
    words = _frequencies(code)
    if code == "ro":
        word = word.translate(_COMMA_BELOW)
    if word in words or not ("'" in word or "-" in word):
        return _without_english(word, code, words)
    parts = [part for part in _PART.split(word) if part]
    parts = [part for part in parts if len(part) > 1] or parts
    return sum(_without_english(part, code, words) for part in parts) / len(parts)


def _without_english(word: str, code: str, words: Mapping[str, float]) -> float:
    zipf = words.get(word)
    if zipf is None or code == "en":
        return UNKNOWN if zipf is None else zipf
    own = 10**zipf - MIXED_IN * 10 ** _frequencies("en").get(word, UNKNOWN)
    return max(math.log10(own), UNKNOWN) if own > 0 else UNKNOWN


def _discounted(evidence: float) -> float:
    if evidence > 0:
        return min(max(evidence - DOUBT, 0.0), STRONGEST)
    return max(evidence, -STRONGEST)


def _normalised(word: str) -> str:
    """Return a word as the lists spell it, in which ß is ss."""
    word = unicodedata.normalize("NFC", word.casefold().replace("i\u0307", "i"))
    return word.replace("’", "'").replace("‘", "'").replace("‐", "-").replace("‑", "-")


@cache
def _frequencies(code: str) -> dict[str, float]:
    """Return the frequent words of a language, on the Zipf scale."""
    if code not in _lists():
        return dict.fromkeys(common_words(code), FUNCTION_WORD)
    return dict(_list(code))


@cache
def _lists() -> frozenset[str]:
    from wordfreq import available_languages

    return frozenset(available_languages("small"))


def _list(code: str) -> Iterator[tuple[str, float]]:
    from wordfreq import get_frequency_list

    # The words are grouped by their logarithmic frequency: place n holds those of 10 ** (-n / 100).
    for place, words in enumerate(get_frequency_list(code, "small")):
        for word in words:
            yield word, 9 - place / 100
