"""Which prompts Appendix B leaves out: those that ask for another language, and those about code.

Words in Latin letters are matched as words: "digit" is not about git, nor "Javanese" about Java, which they would be to
the search for substrings of the paper's public code. Other scripts, which set no spaces, are searched for substrings.
"""

from __future__ import annotations

import re
from functools import lru_cache

from babel import Locale

from tlpo_ray.data.prompts import Reject
from tlpo_ray.flow.records import Prompt

NAMED = (
    "en", "zh", "es", "hi", "fr", "ar", "bn", "ru", "pt", "ur", "id", "de", "ja", "sw", "mr", "te", "tr", "ko", "vi",
    "ta", "pa", "jv", "fa", "it", "th",
)  # fmt: skip
"""Languages whose names are looked for, in English and in the prompt's language (CLDR)."""
ALSO_NAMED = ("Mandarin", "만다린어")
CODE = (
    "translate", "python", "html", "java", "javascript", "xml", "script", "sql", "css",
    "hello world", "hello, world", "def",
    "c++", "c#", "http", "https", "git", "github", "gitlab", "bash",
    "번역", "파이썬", "자바", "스크립트", "翻訳", "パイソン", "スクリプト", "翻译", "脚本", "ترجم", "بايثون", "جافا",
)  # fmt: skip
"""What prompts about code, a terminal or translation hold."""
NAMES_A_LANGUAGE, ABOUT_CODE, REPEATED = "names a language", "is about code or translation", "repeats another prompt"


def names_a_language(prompt: Prompt) -> str | None:
    """The reason, if the prompt names one of `NAMED`."""
    return NAMES_A_LANGUAGE if _language_names(prompt.language).search(prompt.text) else None


def about_code(prompt: Prompt) -> str | None:
    """The reason, if the prompt holds one of `CODE`."""
    return ABOUT_CODE if _code_words().search(prompt.text) else None


def repeated() -> Reject:
    """Rejects a prompt whose text it has seen before, white space aside."""
    seen: set[str] = set()

    def reject(prompt: Prompt) -> str | None:
        text = " ".join(prompt.text.split())
        if text in seen:
            return REPEATED
        seen.add(text)
        return None

    return reject


@lru_cache
def _language_names(language: str) -> re.Pattern[str]:
    names = {Locale.parse(spoken).languages[code] for spoken in ("en", language) for code in NAMED}
    return _any_of([*names, *ALSO_NAMED])


@lru_cache
def _code_words() -> re.Pattern[str]:
    return _any_of(CODE)


def _any_of(words: list[str] | tuple[str, ...]) -> re.Pattern[str]:
    latin = [re.escape(word) for word in sorted(words, key=len, reverse=True) if word.isascii()]
    others = [re.escape(word) for word in words if not word.isascii()]
    bounded = rf"(?<![A-Za-z])(?:{'|'.join(latin)})(?![A-Za-z])"
    return re.compile("|".join([bounded, *others]), re.IGNORECASE)
