"""Latin words that say how something sounds: pinyin with tone marks, romanised names, phonetic symbols."""

from __future__ import annotations

import re
import unicodedata

from detectors.profile import Profile
from detectors.runs import Run
from detectors.scripts import phonetic_class

# Signs that romanisations share and European languages do not write: long vowels, dots and lines below consonants,
# third tones.
_ROMANISED = frozenset("āēīōūȳǖḍḥḫḡġḷḹḻṁṃṇṅṉṛṝṟṣṭṯẓẕḏḵǎǐǒǔǚ")
_ONLY_BESIDE = frozenset("ñśçšžʾʿʻ")
"""Signs that count as romanised in a word that has one of the others, too: jñāna."""
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

PHONETIC = re.compile(f"[{phonetic_class()}]")


def is_reading(word: str, run: Run, text: str, profile: Profile) -> bool:
    """Whether a lower-case word is a reading. `word` is the run's text, NFKC."""
    if word.isascii():
        before = _TONED_BEFORE.search(text, max(run.start - _LONGEST_SYLLABLES, 0), run.start)
        return before is not None and is_pinyin(word)
    signs = [char for char in unicodedata.normalize("NFC", word) if not char.isascii() and char.isalpha()]
    romanised = _ROMANISED.union(profile.language.romanised)
    if any(char in romanised for char in signs) and all(char in romanised or char in _ONLY_BESIDE for char in signs):
        return True
    return (profile.language.pinyin and is_pinyin(word)) or _in_phonetic_brackets(run, text)


def is_pinyin(word: str) -> bool:
    """Whether a word consists of Mandarin syllables, with or without tone marks."""
    toneless = unicodedata.normalize("NFC", _TONES.sub("", unicodedata.normalize("NFD", word)))
    return _PINYIN.fullmatch(toneless) is not None


def looks_romanised(word: str) -> bool:
    """Whether a word could be romanised Japanese, Korean or Chinese; some words of every language do."""
    toneless = "".join(char for char in unicodedata.normalize("NFD", word) if char.isalpha())
    return _PLAIN_SYLLABLES.fullmatch(toneless) is not None


def _in_phonetic_brackets(run: Run, text: str) -> bool:
    before, after = text[max(run.start - 1, 0) : run.start], text[run.end : run.end + 1]
    return before in ("ˈ", "ˌ") or (before in ("/", "[") and after in ("/", "]"))
