"""Switches for what careful people judge differently; the defaults follow Appendix F of the paper to the letter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from detectors.errors import SettingError

Verdict = Literal["exempt", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a language detector exempts, and which rules it uses.

    Example: `language("ko", hanja_in_brackets="exempt")` accepts 대한민국(大韓民國) as Korean.
    """

    capitalised: Verdict = "exempt"
    """Latin words with a capital letter. Appendix F exempts them as proper nouns."""
    readings: Verdict = "exempt"
    """Romanised readings: pinyin with tone marks, kyōsan. Appendix F exempts tone marks and phonetic symbols."""
    hanja_in_brackets: Verdict = "judge"
    """Chinese characters in brackets after a Korean word. Appendix F has no such exemption."""
    code: Verdict = "exempt"
    """Latin words in code blocks and inline code, since Appendix F names function names and code is full of them. Other
    scripts in code are judged either way."""
    markup: Verdict = "exempt"
    """HTML tags, which are treated as a kind of code."""
    words: bool = True
    """Rule `word`: plain words that are known to be foreign, e.g. "sowie"; needs no library."""
    passages: Literal["auto", "on", "off"] = "auto"
    """Rule `passage`: lines and passages in another language of Latin script. "auto" checks them if wordfreq is
    installed, "on" requires it."""
    allowed: frozenset[str] = frozenset()
    """Words that are never a confusion, in lower case."""


def checked_options(given: Mapping[str, object]) -> Options:
    """Return the options that a configuration gives by name.

    Raises:
        SettingError: an option does not exist or does not accept the value.
    """
    kinds = _kinds()
    options: dict[str, Any] = dict(given)
    for name, value in options.items():
        if name not in kinds:
            raise SettingError(f"option {name!r} of a language detector: not known; available: {', '.join(kinds)}")
        if name == "allowed":
            if isinstance(value, str) or not all(isinstance(word, str) for word in value):
                raise SettingError(f"option allowed={value!r} of a language detector: expected a list of words")
            continue
        choices = (True, False) if kinds[name] is bool else get_args(kinds[name])
        if value not in choices:
            raise SettingError(f"option {name}={value!r} of a language detector: expected {_as_choice(choices)}")
    if "allowed" in options:
        options["allowed"] = frozenset(word.lower() for word in options["allowed"])
    return Options(**options)


@cache  # evaluates the annotations, which takes longer than judging a short answer
def _kinds() -> dict[str, Any]:
    """Return the type of each option by its name."""
    return get_type_hints(Options)


def _as_choice(choices: tuple[object, ...]) -> str:
    """Return the choices as an error message lists them; booleans as YAML writes them."""
    return " or ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
