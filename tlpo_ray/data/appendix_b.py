"""Appendix B: prompts in whose answers another language or another script may be right.

Names of languages are CLDR's, in English and in the prompts' own language. Words of Latin, Cyrillic and Greek letters
count as whole words, so that "git" is not in "digit"; those of other scripts, which are written without spaces or with
particles on both sides, wherever they stand.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import detectors
from tlpo_ray.config.run import English
from tlpo_ray.data.prepare import Rule, Spans
from tlpo_ray.data.prompts import Reject
from tlpo_ray.flow.records import Prompt

NAMED_LANGUAGES = (
    *("en", "zh", "es", "hi", "fr", "ar", "bn", "ru", "pt", "ur", "id", "de", "ja", "sw", "mr", "te", "tr", "ko", "vi"),
    *("ta", "pa", "jv", "fa", "it", "th"),
)
"""The paper's list; the language of the prompts itself comes to it."""
OTHER_ENGLISH_NAMES = ("Mandarin", "Bengali", "Farsi")
"""In use beside CLDR's."""
WRITTEN_TWICE = {"zh": ("zh_Hans", "zh_Hant")}
"""Languages whose names of languages depend on the script."""
ENDINGS_ALIKE = {"zh": "语語文"}
"""Last letters of such names that say the same; CLDR has one of them for each."""
WORD_FOR_LANGUAGE = {"th": "ภาษา", "id": "bahasa ", "ms": "bahasa "}
"""Where a language is called as its country is, its name counts after this word only."""

CODE_WORDS = (
    *("python", "html", "java", "javascript", "typescript", "xml", "script", "scripts", "sql", "mysql", "css"),
    *("hello world", "def", "c++", "c#", "http", "https", "git", "github", "gitlab", "bash"),
    *("translate", "translates", "translated", "translating", "translation", "translations", "translator"),
)
"""The paper's list, with the words that it finds inside others."""
OWN_CODE_WORDS = {
    "ko": "번역|파이썬|자바|스크립트",
    "ja": "翻訳|パイソン|スクリプト",
    "zh": "翻译|翻譯|脚本|腳本",
    "ar": "ترجم|بايثون|جافا|سكريبت",
    "de": "übersetz",
    "es": "traduc|traduzca",
    "fr": "tradui|traduct",
    "hi": "अनुवाद",
    "id": "erjemah",
    "it": "tradu[rcz]",
    "pt": "tradu[zç]",
    "ru": "перевед|перевод",
    "th": "แปล(?![กง])",
    "uk": "переклад|перекла",
}
"""Patterns of the same words in the prompts' language, first of all "translate"; found inside words too."""

_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ԯḀ-ỿἀ-῿\u0300-\u036f"
_WHOLE = re.compile(f"[{_LETTERS}' ’-]+")
_BEGIN, _END = f"(?<![{_LETTERS}])", f"(?![{_LETTERS}])"
_VOWELS = "aeiouyаеиоуыэюяйіαειουηω"
_SHORTEST_STEM, _LONGEST_ENDING = 5, 3
_ALIF = re.compile("[اأإآ]")
"""Arabic writers leave the hamza of an alif out."""


def names_no_language(language: str) -> Rule:
    """Prompts that name a language, perhaps the one to answer in.

    Args:
        language: of the prompts.
    """
    return _without("names a language", _language_names(language))


def asks_for_no_code(language: str) -> Rule:
    """Prompts about code, the terminal or translation."""
    whole = f"{_BEGIN}(?:{_any(map(re.escape, CODE_WORDS))}){_END}"
    own = OWN_CODE_WORDS.get(language)
    return _without("is about code or translation", re.compile(f"{whole}|{own}" if own else whole, re.IGNORECASE))


def _without(reason: str, words: re.Pattern[str]) -> Rule:
    def reject(prompt: Prompt) -> str | None:
        return reason if words.search(unicodedata.normalize("NFC", prompt.text)) else None

    def spans(prompt: Prompt) -> Spans:
        return [match.span() for match in words.finditer(prompt.text)]

    return Rule(reject=reject, spans=spans)


@cache
def _language_names(language: str) -> re.Pattern[str]:
    english, _ = _cldr("en", (*NAMED_LANGUAGES, language))
    patterns = [f"{_BEGIN}(?:{_any(map(re.escape, {*english, *OTHER_ENGLISH_NAMES}))}){_END}"]
    for locale in WRITTEN_TWICE.get(language, (language,)):
        names, countries = _cldr(locale, (*NAMED_LANGUAGES, language))
        alike = ENDINGS_ALIKE.get(language, "")
        names |= {name[:-1] + last for name in names if name[-1] in alike for last in alike}
        word = WORD_FOR_LANGUAGE.get(language)
        own = {name for name in names if name.casefold() not in countries} | {word + name for name in names if word}
        patterns += _own_names(own, countries)
    return re.compile("|".join(patterns), re.IGNORECASE)


def _own_names(names: Iterable[str], countries: Iterable[str]) -> list[str]:
    """Patterns of names in their own language: words, names of several words, and those of other scripts."""
    whole = {name for name in names if _WHOLE.fullmatch(name)}
    words = {name for name in whole if " " not in name}
    # "germană" may end otherwise, but "Germania" is a country.
    others = _any(re.escape(name) for name in countries if _WHOLE.fullmatch(name))
    patterns = [
        f"{_BEGIN}{guard}(?:{_any(map(_inflected, group))}){_END}"
        for guard, group in ((f"(?!(?:{others}){_END})", words), ("", whole - words))
        if group
    ]
    anywhere = set(names) - whole
    if anywhere:
        patterns.append(_any(_ALIF.sub("[اأإآ]", re.escape(name)) for name in anywhere))
    return patterns


def _inflected(name: str) -> str:
    """A name with any short ending in place of its last vowels, if enough of it is left."""
    stem = name
    while unicodedata.normalize("NFD", stem[-1])[0].casefold() in _VOWELS and len(stem) > 1:
        stem = stem[:-1]
    if len(stem) < _SHORTEST_STEM:
        return re.escape(name)
    return f"{re.escape(stem)}[{_LETTERS}]{{0,{_LONGEST_ENDING}}}"


def _cldr(locale: str, languages: Iterable[str]) -> tuple[set[str], set[str]]:
    """What the languages are called in a locale, and what its countries are called, in small letters."""
    from babel import Locale, UnknownLocaleError

    try:
        found = Locale.parse(locale)
    except UnknownLocaleError:
        return set(), set()
    names = {found.languages[code] for code in languages if code in found.languages}
    return names, {name.casefold() for name in found.territories.values()}


def _any(patterns: Iterable[str]) -> str:
    """The alternatives, longer ones first."""
    return "|".join(sorted(patterns, key=lambda pattern: (-len(pattern), pattern)))


def foreign(english: English) -> Reject:
    """Appendix B: a prompt that itself holds another language's characters teaches the wrong thing."""

    def reject(prompt: Prompt) -> str | None:
        profile = detectors.profile(prompt.language, english)
        return "holds characters of another language" if detectors.find(prompt.text, profile) else None

    return reject
