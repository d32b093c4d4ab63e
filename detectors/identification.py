"""Which language a short text is in: by its letters where they decide, else by the word frequencies of wordfreq.

Identification is for prompts that state no language, so it is made not to guess: a text of a few words that two
languages share, of mixed scripts, or in a language without a detector, has no certain language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

from detectors.evidence import ELSEWHERE, UNKNOWN, frequency
from detectors.language_profile import WORD_LISTS, build_profile
from detectors.language_table import LANGUAGES
from detectors.options import Options
from detectors.scripts import script_of

LONGEST = 2000
"""Characters of a sentence that are looked at."""
MOST_SENTENCES = 8
"""Sentences at the beginning and at the end of a text that are looked at."""
MOSTLY, HARDLY = 0.45, 0.25
"""Share of a text from which on its largest script beside Latin decides, and below which Latin does; texts in between
are mixed."""
LETTERS_PER_WORD = {"Hangul": 2.5, "Han": 1.5, "Hiragana": 2.0, "Katakana": 3.0, "Thai": 4.0}
"""Mean length of a word in letters, by which scripts are compared; `OTHER_LETTERS_PER_WORD` for all others."""
OTHER_LETTERS_PER_WORD = 5.0
MOST_FOREIGN = 0.1
"""Share of words with a letter that a language does not have up to which a text may be in it."""
LEAST_KANA = 0.05
"""Share of kana in a text of Han and kana from which on it is Japanese."""
LEAST_HAN = 8
"""Number of Han letters without kana from which on a text is Chinese, although each of them is used in Japanese too."""
MARGIN = 2.0
"""Evidence, in powers of ten, by which the words of a text must fit one language better than any other."""
LEAST_FREQUENT = 3.8
"""Mean frequency of the words (Zipf scale) below which a text is in none of the languages that are known."""
CYRILLIC_ELSEWHERE = ("bg", "mk")
"""Languages of Cyrillic script without a detector, as `evidence.ELSEWHERE` for Latin script."""

_NO_PROSE = re.compile(r"```[\s\S]*?(?:```|\Z)|`[^`\n]*`|https?://\S+|[\w.+-]+@[\w.-]+")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[。？！：])|\n+")
_JAPANESE = ("Han", "Hiragana", "Katakana")


def identify(text: str, expected: Sequence[str] = ()) -> str | None:
    """Return the language of a text as the code of a detector, e.g. "ko"; None if it is not certain.

    A text that begins and ends in different languages is not certain: one of them may be that of a text which the
    other asks about. Code and addresses are not looked at. Without wordfreq, only letters separate languages.

    Args:
        text: the text, of which the first and last sentences are looked at.
        expected: codes that are preferred to those of languages which cannot be told from them, e.g. "ms" to "id".
    """
    found = _identify(text)
    if found is None or found in expected:
        return found
    alike = (*LANGUAGES[found].indistinguishable_from, *(code for code in expected if code.split("-")[0] == found))
    return next((code for code in expected if code in alike), found)


def _identify(text: str) -> str | None:
    sentences = [each for each in _SENTENCE_END.split(_NO_PROSE.sub(" ", text)) if each.strip()]
    # A question about a text in another language is in its first or last sentence: which one, nobody knows.
    ends = (
        sentences if len(sentences) <= 2 * MOST_SENTENCES else sentences[:MOST_SENTENCES] + sentences[-MOST_SENTENCES:]
    )
    certain = [language for each in ends if (language := _language_of(each[:LONGEST])) is not None]
    if not certain:
        return _language_of(" ".join(ends)[:LONGEST])
    first, last = certain[0], certain[-1]
    if first != last and last in LANGUAGES[first].indistinguishable_from:
        return _language_of(" ".join(ends)[:LONGEST]) or first
    return first if first == last else None


def _language_of(text: str) -> str | None:
    """Return the language of a text as a whole; None if it is not certain."""
    letters = Counter(script_of(char) for char in text if char.isalpha())
    del letters["Common"]
    script = _script(letters)
    if script is None:
        return None
    if script in _JAPANESE:
        return _han_or_kana(text, letters)
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.casefold())
    words = [word for word in words if script_of(word[0]) == script]
    possible = [code for code in _languages(script) if _has_letters(code, words)]
    if len(_languages(script)) == 1 or (len(possible) == 1 and script != "Latin"):
        return possible[0] if possible else None
    return _by_words(words, possible, script)


def _script(letters: Counter[str]) -> str | None:
    """Return the script that most of a text is in; None if there is none."""
    weights = {name: count / LETTERS_PER_WORD.get(name, OTHER_LETTERS_PER_WORD) for name, count in letters.items()}
    total = sum(weights.values())
    if not total:
        return None
    joint = sum(weights.pop(name, 0.0) for name in _JAPANESE)
    latin = weights.pop("Latin", 0.0)
    weights["Han"] = joint
    name, weight = max(weights.items(), key=lambda item: item[1])
    if weight >= MOSTLY * total:
        return name
    return "Latin" if total - latin < HARDLY * total else None


def _han_or_kana(text: str, letters: Counter[str]) -> str | None:
    kana = letters["Hiragana"] + letters["Katakana"]
    if kana >= LEAST_KANA * (kana + letters["Han"]):
        return "ja"
    only_chinese = letters["Han"] >= LEAST_HAN or any(char in _not_japanese() for char in text)
    return "zh" if only_chinese else None


@cache
def _not_japanese() -> frozenset[str]:
    return frozenset(LANGUAGES["ja"].excluded)


@cache
def _languages(script: str) -> tuple[str, ...]:
    """Return the codes of the languages that are written in a script, without their variants such as zh-Hant."""
    return tuple(code for code, row in LANGUAGES.items() if script in row.scripts and "-" not in code)


def _has_letters(code: str, words: Sequence[str]) -> bool:
    """Return whether a language has the letters of all words but a few, which may be names."""
    foreign = build_profile(code, "neutral", Options(passages="off")).foreign_letters
    return sum(foreign.search(word) is not None for word in words) <= MOST_FOREIGN * len(words)


def _by_words(words: Sequence[str], possible: Sequence[str], script: str) -> str | None:
    """Return the language whose frequent words a text has, if they are not those of another language, too."""
    if find_spec(WORD_LISTS) is None or not (words and possible):
        return None
    elsewhere = {"Latin": ELSEWHERE, "Cyrillic": CYRILLIC_ELSEWHERE}.get(script, ())
    fit = {code: sum(max(frequency(word, code), UNKNOWN) for word in words) for code in (*possible, *elsewhere)}
    best = max(fit, key=lambda code: fit[code])
    if best not in LANGUAGES or fit[best] < LEAST_FREQUENT * len(words):
        return None
    alike = LANGUAGES[best].indistinguishable_from
    second = max((value for code, value in fit.items() if code != best and code not in alike), default=0.0)
    return best if fit[best] - second >= MARGIN else None
