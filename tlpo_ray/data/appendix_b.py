"""Appendix B of the paper: prompts to which an answer in another language or script may be correct.

The names of languages are those of CLDR, in English and in the prompts' own language. Words in Latin, Cyrillic and
Greek letters are matched as complete words, so that "git" is not found in "digit". Words in other scripts are matched
anywhere, because these scripts are written without spaces or attach particles to a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import detectors
from tlpo_ray.config.detector import English
from tlpo_ray.data.prompts import Reject
from tlpo_ray.data.rules import Rule, Spans, system_text, user_text
from tlpo_ray.flow.records import Prompt

NAMED_LANGUAGES = (
    *("en", "zh", "es", "hi", "fr", "ar", "bn", "ru", "pt", "ur", "id", "de", "ja", "sw", "mr", "te", "tr", "ko", "vi"),
    *("ta", "pa", "jv", "fa", "it", "th"),
)
"""The paper's list; the language of the prompts is added to it."""
OTHER_ENGLISH_NAMES = {"Mandarin": "zh", "Bengali": "bn", "Farsi": "fa"}
"""English names in use that CLDR does not list, with their languages."""
WRITTEN_TWICE = {"zh": ("zh_Hans", "zh_Hant")}
"""CLDR locales of languages that are written in two scripts."""
ENDINGS_ALIKE = {"zh": "语語文"}
"""Interchangeable last letters of the names of languages; CLDR lists one variant of each name."""
WORD_FOR_LANGUAGE = {"th": "ภาษา", "id": "bahasa ", "ms": "bahasa "}
"""Word for "language" where a language has the name of its country: there a name counts only after this word."""

CODE_WORDS = (
    *("python", "html", "java", "javascript", "typescript", "xml", "script", "scripts", "sql", "mysql", "css"),
    *("hello world", "def", "c++", "c#", "http", "https", "git", "github", "gitlab", "bash"),
    *("translate", "translates", "translated", "translating", "translation", "translations", "translator"),
)
"""The paper's list, with the longer words in which it finds them as substrings."""
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
"""Patterns of the same words ("translate" above all) in the prompts' language; they also match inside words."""

_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ԯḀ-ỿἀ-῿\u0300-\u036f"
_WHOLE = re.compile(f"[{_LETTERS}' ’-]+")
_BEGIN, _END = f"(?<![{_LETTERS}])", f"(?![{_LETTERS}])"
_VOWELS = "aeiouyаеиоуыэюяйіαειουηω"
_SHORTEST_STEM, _LONGEST_ENDING = 5, 3
_ALIF = re.compile("[اأإآ]")
"""Alif with and without hamza: many writers of Arabic leave the hamza out."""


def names_no_language(language: str) -> Rule:
    """Return a rule that drops prompts which name a language: it may be the one to answer in.

    Of a conversation, everything that the user says counts, and the system prompt. A system prompt may name the
    prompts' own language, because "answer in Korean" is no reason to answer Korean prompts in another language.

    Args:
        language: two-letter code of the prompts' language.
    """
    language = language.split("-")[0]  # both writings of Chinese have the same names
    return _without("names a language", _language_names(language), _language_names(language, own=False))


def asks_for_no_code(language: str) -> Rule:
    """Return a rule that drops prompts about code, the terminal or translation.

    Of a conversation, everything that the user says counts, and the system prompt.
    """
    whole = f"{_BEGIN}(?:{_any(map(re.escape, CODE_WORDS))}){_END}"
    own = OWN_CODE_WORDS.get(language.split("-")[0])
    return _without("is about code or translation", re.compile(f"{whole}|{own}" if own else whole, re.IGNORECASE))


def _without(reason: str, words: re.Pattern[str], system_words: re.Pattern[str] | None = None) -> Rule:
    """Return a rule that drops prompts with some of the words, or whose system prompt has some of `system_words`."""
    of_system = words if system_words is None else system_words

    def place(prompt: Prompt) -> tuple[str, re.Pattern[str]]:
        said = user_text(prompt)
        system = system_text(prompt)
        in_system = not words.search(_composed(said)) and of_system.search(_composed(system))
        return (system, of_system) if in_system else (said, words)

    def reject(prompt: Prompt) -> str | None:
        text, pattern = place(prompt)
        return reason if pattern.search(_composed(text)) else None

    def spans(prompt: Prompt) -> Spans:
        text, pattern = place(prompt)
        return [match.span() for match in pattern.finditer(text)]

    return Rule(reject=reject, spans=spans, text=lambda prompt: place(prompt)[0])


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@cache
def _language_names(language: str, *, own: bool = True) -> re.Pattern[str]:
    """Return a pattern of the names of languages, with or without the prompts' own one."""
    codes = [code for code in (*NAMED_LANGUAGES, language) if own or code != language]
    english, _ = _cldr("en", codes)
    patterns = [f"{_BEGIN}(?:{_any(map(re.escape, {*english, *_other_names(language, own=own)}))}){_END}"]
    for locale in WRITTEN_TWICE.get(language, (language,)):
        names, countries = _cldr(locale, codes)
        alike = ENDINGS_ALIKE.get(language, "")
        names |= {name[:-1] + last for name in names if name[-1] in alike for last in alike}
        word = WORD_FOR_LANGUAGE.get(language)
        unlike = {name for name in names if name.casefold() not in countries} | {word + name for name in names if word}
        patterns += _own_names(unlike, countries)
    return re.compile("|".join(patterns), re.IGNORECASE)


def _other_names(language: str, *, own: bool) -> list[str]:
    return [name for name, code in OTHER_ENGLISH_NAMES.items() if own or code != language]


def _own_names(names: Iterable[str], countries: Iterable[str]) -> list[str]:
    """Return patterns for names in their own language: single words, names of several words, names in other scripts."""
    whole = {name for name in names if _WHOLE.fullmatch(name)}
    words = {name for name in whole if " " not in name}
    # "germană" may be inflected, but "Germania" is a country.
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
    """Return a pattern that allows any short ending in place of the last vowels, unless the stem would be too short."""
    stem = name
    while unicodedata.normalize("NFD", stem[-1])[0].casefold() in _VOWELS and len(stem) > 1:
        stem = stem[:-1]
    if len(stem) < _SHORTEST_STEM:
        return re.escape(name)
    return f"{re.escape(stem)}[{_LETTERS}]{{0,{_LONGEST_ENDING}}}"


def _cldr(locale: str, languages: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the names of the languages in a locale, and the names of its territories in lower case."""
    from babel import Locale, UnknownLocaleError

    try:
        cldr = Locale.parse(locale)
    except UnknownLocaleError:
        return set(), set()
    names = {cldr.languages[code] for code in languages if code in cldr.languages}
    return names, {name.casefold() for name in cldr.territories.values()}


def _any(patterns: Iterable[str]) -> str:
    """Return the alternatives as one pattern, the longest first."""
    return "|".join(sorted(patterns, key=lambda pattern: (-len(pattern), pattern)))


def rejects_foreign_text(english: English) -> Reject:
    """Return a filter that rejects prompts which themselves contain another language: they invite confused answers.

    Of a conversation, everything that the user says counts, but neither retrieved text nor answers nor system prompt.

    Args:
        english: whether English words count as another language.
    """

    def reject(prompt: Prompt) -> str | None:
        detector = detectors.language(prompt.language, english)
        return "holds characters of another language" if detectors.find(user_text(prompt), detector) else None

    return reject
