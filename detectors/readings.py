"""Readings: Latin words that show how something sounds (pinyin, romanised names, phonetic symbols)."""

from __future__ import annotations

import re
import unicodedata

from detectors.language_profile import LanguageProfile
from detectors.runs import Run
from detectors.scripts import phonetic_class

# Letters that romanisations share and European languages do not use: long vowels, dots and lines below consonants,
# third tones.
_ROMANISED = frozenset("āēīōūȳǖḍḥḫḡġḷḹḻṁṃṇṅṉṛṝṟṣṭṯẓẕḏḵǎǐǒǔǚ")
_ONLY_BESIDE = frozenset("ñśçšžʾʿʻ")
"""Letters that count as romanised only in a word that has one of the others too: jñāna."""
_TONES = re.compile("[\u0300\u0301\u0304\u030c]")
_PINYIN = re.compile(
    r"""(?: (?: [bp](?:iao|ian|ang|eng|ing|ai|ei|ao|ou|an|en|in|ie|a|o|i|u)
      | m(?:iao|ian|ang|eng|ing|ai|ei|ao|ou|an|en|in|ie|iu|a|o|e|i|u)
      | f(?:ang|eng|ei|ou|an|en|a|o|u)
      | [dt](?:iao|ian|uan|ang|eng|ing|ong|ai|ei|ao|ou|an|en|ia|ie|iu|uo|ui|un|a|e|i|u)
      | [nl](?:iang|iao|ian|uan|ang|eng|ing|ong|ai|ei|ao|ou|an|en|in|ia|ie|iu|uo|un|ue|üe|a|e|i|u|ü)
      | (?:[gkh]|[zcs]h|r)(?:uang|uai|uan|ang|eng|ong|ai|ei|ao|ou|an|en|ua|uo|ui|un|a|e|i|u)
      | [jqx](?:iang|iong|iao|ian|uan|ing|in|ia|ie|iu|ue|un|i|u)
      | [zcs](?:uan|ang|eng|ong|ai|ei|ao|ou|an|en|uo|ui|un|a|e|i|u)
      | y(?:ang|ing|ong|uan|ao|ou|an|in|ue|un|a|o|e|i|u)
      | w(?:ang|eng|ai|ei|an|en|a|o|u)
      | ang|ai|ei|ao|ou|an|en|er|a|o|e )['’-]? )+""",
    re.VERBOSE,
)
# Syllables of romanised Japanese, Korean and Chinese without their signs.
_PLAIN_SYLLABLES = re.compile(
    r"(?:(?:kk|ss|tt|pp|[kgnhbpmr]y|sh|ch|ts|zh|[kgsztdnhbpmyrwjfqxc])?"
    r"(?:iang|iong|uang|eo|eu|ae|ang|eng|ing|ong|iao|ian|uan|ai|ei|ao|ou|ui|uo|ia|ie|[aiueo])(?:n(?![aiueoy]))?|n)+"
)

_TONED_BEFORE = re.compile("[āáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜ][a-zA-Z]{0,3}[^A-Za-z\n]{1,2}\\Z")
_LONGEST_SYLLABLES = 8

PHONETIC_LETTER = re.compile(f"[{phonetic_class()}]")
"""Matches one letter of the International Phonetic Alphabet."""


def is_reading(word: str, run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a lower-case word is a reading.

    Args:
        word: the run's text in normal form KC.
        run: where the word is in `text`.
        text: the text around it.
        profile: the language of the text.
    """
    if word.isascii():
        # Without tone marks "shi" may be anything; directly after a syllable with one it belongs to the same reading.
        before = _TONED_BEFORE.search(text, max(run.start - _LONGEST_SYLLABLES, 0), run.start)
        return before is not None and is_pinyin(word)
    accented = [char for char in unicodedata.normalize("NFC", word) if not char.isascii() and char.isalpha()]
    romanised = _ROMANISED.union(profile.language.romanised)
    if any(char in romanised for char in accented) and all(
        char in romanised or char in _ONLY_BESIDE for char in accented
    ):
        return True
    return (profile.language.pinyin and is_pinyin(word)) or _in_phonetic_brackets(run, text)


def is_pinyin(word: str) -> bool:
    """Return whether a word consists of Mandarin syllables, with or without tone marks."""
    toneless = unicodedata.normalize("NFC", _TONES.sub("", unicodedata.normalize("NFD", word)))
    return _PINYIN.fullmatch(toneless) is not None


def looks_romanised(word: str) -> bool:
    """Return whether a word could be romanised Japanese, Korean or Chinese; every language has some such words."""
    toneless = "".join(char for char in unicodedata.normalize("NFD", word) if char.isalpha())
    return _PLAIN_SYLLABLES.fullmatch(toneless) is not None


def _in_phonetic_brackets(run: Run, text: str) -> bool:
    """Return whether a word is marked as a pronunciation: after a stress mark, or as in /ka.fe/."""
    before, after = text[max(run.start - 1, 0) : run.start], text[run.end : run.end + 1]
    return before in ("ˈ", "ˌ") or (before in ("/", "[") and after in ("/", "]"))
