"""Where careful people differ about confusion: switches, each with the paper's letter as default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from detectors.errors import SettingError

Verdict = Literal["exempt", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a profile exempts, and which tiers it uses.

    Example: `profile("ko", hanja_in_brackets="exempt")` takes 대한민국(大韓民國) as Korean.
    """

    capitalised: Verdict = "exempt"
    """Latin words with a capital letter. Appendix F exempts them as proper nouns."""
    readings: Verdict = "exempt"
    """Romanised readings: pinyin with tone marks, kyōsan. Appendix F exempts tone marks and phonetic symbols."""
    hanja_in_brackets: Verdict = "judge"
    """Chinese characters in brackets after a Korean word. Appendix F has no such exemption."""
    code: Verdict = "exempt"
    """Latin words in code blocks and inline code. Appendix F names function names, and code is full of them; other
    scripts in code are judged either way."""
    markup: Verdict = "exempt"
    """HTML tags, which are read as a kind of code."""
    words: bool = True
    """Tier `word`: plain foreign words that are known, such as "sowie"; needs no library."""
    passages: Literal["auto", "on", "off"] = "auto"
    """Tier `passage`: lines and passages in another language of Latin script. "auto" checks them if lingua is
    installed, "on" demands it."""
    allowed: frozenset[str] = frozenset()
    """Words that are never confused, in small letters."""


def checked_options(given: Mapping[str, Any]) -> Options:
    """Options by name, as they stand in a configuration.

    Raises:
        SettingError: a name or a value is none of an option.
    """
    kinds = get_type_hints(Options)
    for name, value in given.items():
        if name not in kinds:
            raise SettingError(f"option {name!r} of a language detector: there are {', '.join(kinds)}")
        choices = get_args(kinds[name]) if name != "allowed" else ()
        choices = (True, False) if kinds[name] is bool else choices
        if choices and value not in choices:
            raise SettingError(f"option {name}={value!r} of a language detector: expected {_spelled(choices)}")
        if name == "allowed" and (isinstance(value, str) or not all(isinstance(word, str) for word in value)):
            raise SettingError(f"option allowed={value!r} of a language detector: expected a list of words")
    options = dict(given)
    if "allowed" in options:
        options["allowed"] = frozenset(word.lower() for word in options["allowed"])
    return Options(**options)


def _spelled(choices: tuple[object, ...]) -> str:
    return " or ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
