"""Where careful people differ about confusion: switches, each with the paper's letter as default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
