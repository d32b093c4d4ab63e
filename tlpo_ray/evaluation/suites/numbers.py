"""Numbers in an answer, as people write them: digits of any script, signs, separators, fractions.

Where digits leave only one reading, it counts in every language: 1,234.5 and 1.234,5 and 1,23,456 and 12,5. A single
full stop or comma before three digits separates thousands or decimals, and which of them is a matter of the language:
in German, 1.234 is more than a thousand, in Korean less than two. CLDR has the decimal sign of each language. Languages
that are written from right to left may have the minus behind the digits: ٥- is minus five.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

GROUP, DECIMAL = "\N{ARABIC THOUSANDS SEPARATOR}", "\N{ARABIC DECIMAL SEPARATOR}"
"""In a normalised text, GROUP stands for every separator of thousands that is never a decimal sign."""
_SIGNS = str.maketrans(
    dict.fromkeys("−－﹣‐‑–", "-")
    | dict.fromkeys("，،﹐'’ʼ＇\u00a0\u2007\u2009\u202f", GROUP)
    | {"．": ".", "﹒": ".", "⁄": "/", "∕": "/"}
)
_LATEX = {"{,}": ",", "{.}": ".", r"\,": "\u202f", r"\$": "$", r"\%": "%", r"\ ": " "}
"""Separators and signs as formulas have them."""
_FRACTION = re.compile(r"(\d?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
_RUN = rf"\d++(?:[.,{GROUP}{DECIMAL}]\d++)*+"
_NUMBER = re.compile(
    rf"(?:(?P<whole>\d++)\x20)?(?<!/)(?P<top>{_RUN})/(?P<bottom>{_RUN})(?!/)"
    rf"|(?P<run>{_RUN})|(?<![\w.,)\]])(?P<point>[.{DECIMAL}]\d++)"
)
_MINUS_BEHIND = re.compile(r"[%٪]?-[%٪]?(?!\w|\s*\d)")
_WESTERN, _INDIAN = r"[1-9]\d{0,2}(?:S\d{3})+", r"[1-9]\d?(?:S\d{2})+S\d{3}"
_GROUPED = [re.compile(f"{_WESTERN}|{_INDIAN}".replace("S", re.escape(sign))) for sign in (".", ",", GROUP)]


def last_number(text: str, language: str) -> Decimal | None:
    """Return the last number in a text, without its unit or currency; None if there is none.

    Exponents (10^6) and numbers that contain words or signs for thousands (3만, 12 million) are not evaluated.

    Args:
        text: Any text.
        language: Language of the text, whose conventions hold where a number has two readings.
    """
    return next(reversed(list(_numbers(_normalised(text, language), language))), None)


def _normalised(text: str, language: str) -> str:
    """Return the text with ASCII digits, one sign for each purpose, and fractions with a slash."""
    for formula, plain in _LATEX.items():
        text = text.replace(formula, plain)
    text = _FRACTION.sub(lambda match: f"{_before_fraction(match[1])}{match[2]}/{match[3]}", text)
    text = _VULGAR.sub(lambda match: _before_fraction(match[1]) + unicodedata.normalize("NFKC", match[2]), text)
    text = "".join(map(_character, text)).translate(_SIGNS)
    if _conventions(language)[1]:
        text = re.sub(r"(?<=\d)\x20(?=\d{3}(?!\d))", GROUP, text)
    return text


def _before_fraction(digit: str) -> str:
    return f"{digit} " if digit else ""


def _character(character: str) -> str:
    """Return a digit of any script as an ASCII digit, and nothing for marks of writing direction."""
    if character.isascii():
        return character
    match unicodedata.category(character):
        case "Nd":
            return str(unicodedata.decimal(character))
        case "Cf":
            return ""
    return character


@lru_cache
def _conventions(language: str) -> tuple[str, bool, bool]:
    """Return what a language has for its numbers, according to CLDR.

    That is the decimal sign among Western digits, whether spaces separate its thousands, and whether it is written from
    right to left.
    """
    from babel import Locale, UnknownLocaleError
    from babel.numbers import get_decimal_symbol, get_group_symbol

    try:
        locale = Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return ".", False, False
    group: str = get_group_symbol(locale, numbering_system="latn")
    decimal: str = get_decimal_symbol(locale, numbering_system="latn")
    return decimal, group.isspace(), locale.character_order == "right-to-left"


def _numbers(text: str, language: str) -> Iterator[Decimal]:
    decimal, _, from_right = _conventions(language)
    for match in _NUMBER.finditer(text):
        if text.endswith(("^", "^{", "^-", "^{-"), 0, match.start()):
            continue
        value = _value(match, decimal)
        is_negative = _is_negative(text, match.start()) or (from_right and _has_minus_behind(text, match))
        yield -value if is_negative else value


def _value(match: re.Match[str], decimal: str) -> Decimal:
    if match["point"]:
        return Decimal(f"0.{match['point'][1:]}")
    if match["run"]:
        return _read(match["run"], decimal)
    top, bottom = _read(match["top"], decimal), _read(match["bottom"], decimal)
    return int(match["whole"] or 0) + top / bottom if bottom else bottom


def _read(run: str, decimal: str) -> Decimal:
    """Return the value of digits with separators between them; of the last digits, if it is not one number."""
    separators = [character for character in run if not character.isdigit()]
    if not separators:
        return Decimal(run)
    last = separators[-1]
    head, _, tail = run.rpartition(last)
    if _is_grouped(run) and (len(separators) > 1 or last in (GROUP, *{".", ","} - {decimal})):
        return Decimal(_digits(run))
    if last != GROUP and last not in head and (head.isdigit() or _is_grouped(head)):
        return Decimal(f"{_digits(head)}.{tail}")
    return Decimal(tail)


def _digits(run: str) -> str:
    return "".join(filter(str.isdigit, run))


def _is_grouped(run: str) -> bool:
    """Return whether one sign separates thousands in digits, or thousands, lakhs and crores."""
    return any(pattern.fullmatch(run) for pattern in _GROUPED)


def _is_negative(text: str, start: int) -> bool:
    """Return whether a minus sign belongs to the number, before or behind a sign of currency or percent."""
    before = text[max(0, start - 3) : start]
    if before and (before[-1] in "%٪" or unicodedata.category(before[-1]) == "Sc"):
        before = before[:-1]
    if not before.endswith("-"):
        return False
    other = before[-2:-1]  # behind a number, a letter or a bracket it is a hyphen, or subtracts
    return not (other.isdigit() or (other.isascii() and other.isalpha()) or other in {")", "]", "%"})


def _has_minus_behind(text: str, number: re.Match[str]) -> bool:
    """Return whether a minus sign is behind the number, with a sign of percent or without.

    A number that begins its line and has more on it is the mark of a list: ١- is "first".
    """
    minus = _MINUS_BEHIND.match(text, number.end())
    if minus is None:
        return False
    line = text[text.rfind("\n", 0, number.start()) + 1 : number.start()]
    end = text.find("\n", minus.end())
    return bool(line.strip()) or not text[minus.end() : end if end >= 0 else len(text)].strip()
