"""Symbols of units: beside a number, and alone unless they are words, too."""

from __future__ import annotations

import re
import unicodedata

from detectors.lexicon import word_set
from detectors.scripts import basic_latin_class, mark_class, script_of

# Units that are written in small letters: words with a capital are exempt anyway.
_SYMBOLS = word_set(
    # length, area, volume
    "fm pm nm μm µm mm cm dm m km ft yd sqft sqm cc nl μl µl ml cl dl hl l tsp tbsp pt px dpi ppi "
    # mass, amount
    "fg pg ng ug μg µg mcg mg g kg t lb lbs oz ct gr fmol pmol nmol umol μmol µmol mmol mol kmol kda kbp bp meq iu "
    "miu ppm ppb ppt pcs "
    # time, frequency, speed
    "fs ps ns μs µs ms s sec secs min mins h hr hrs yr yrs hz khz mhz ghz thz rpm bpm fps cps mph kph kmh kn kt kts "
    # force, pressure, energy, power, electricity, light, radiation, sound
    "hp bhp btu kev mev gev psig cfm gpm kwp kgf gf lbf hpa kpa mpa gpa mbar atm psi mmhg inhg cal kcal kj mj wh kwh "
    "mwh gwh twh w mw kw gw kva mv kv mah lm lx cd cp rad mrad sr bq kbq mbq gy mgy sv msv μsv usv db dba dbm dbi "
    # data
    "kbit mbit gbit bps kbps mbps gbps tbps kb mb gb tb pb kib mib gib tib rps"
)
_WORDS_TOO = word_set(
    "in mi mil mils ha acre acres gal em rem um ul ea us knot knots ohm ohms ev kvar pa bar torr ma ah lux bit bits "
    "byte bytes flops"
)
"""Units that are words of some language, too, so that they count beside a number or another unit only."""
_WORDS_GLUED = word_set("ha bar")
"""Those of them that count where a letter of another script is glued to them: ha당."""
_PERIODS = word_set("second minute hour day week month year")
"""Words that are written behind the slash of a unit."""
_UNITS = _SYMBOLS | _WORDS_TOO
_CAPITALS_INSIDE = word_set("kJ mAh Ah kWh Wh kW MW mL dL L dB eV hPa kPa mA mV °C °F")
_BEHIND_NUMBERS = "|".join(sorted(_UNITS | _CAPITALS_INSIDE | word_set("a am x th st nd rd")))
_FULL_WIDTH = {code: code + 0xFEE0 for first, last in ("AZ", "az") for code in range(ord(first), ord(last) + 1)}
_ANY_UNIT = f"(?:{_BEHIND_NUMBERS}|{_BEHIND_NUMBERS.translate(_FULL_WIDTH)})"
_NUMERAL = r"[\d½¼¾⅓⅔⅛⁰¹²³⁴-⁹]"

NUMBER_WITH_UNIT = (
    rf"{_NUMERAL}(?:[-−]?\s|[-−])?{_ANY_UNIT}(?:[/·／](?:{_ANY_UNIT}|{'|'.join(sorted(_PERIODS))}))*"
    rf"(?![{basic_latin_class()}{mark_class('Latin')}])"
)
"""Matches the last digit of a number with its unit: 5 km, ５０ｋｍ／ｈ; in ٥- kg the minus is behind the number."""
NUMBER_BEFORE = re.compile(rf"{_NUMERAL}[-−]?\s\Z")
"""Matches a number and a space at the end of a text, behind which a unit may come."""

_LONGEST = 8
"""Number of characters beside a word in which the other part of a unit is searched for."""
_PART_BEFORE, _PART_AFTER = re.compile(r"([A-Za-zμΩ]+)\d?[/·]\Z"), re.compile(r"\d?[/·]([A-Za-zμΩ]+)")
_JOINED_BEFORE, _JOINED_AFTER = re.compile(r"[A-Za-z0-9_.@\\$<-]\Z"), re.compile(r"[A-Za-z_@\\]")


def is_unit(word: str, start: int, end: int, text: str) -> bool:
    """Return whether a word is a unit that no number stands before: kg입니다, km/h, 원/kWh.

    Args:
        word: the word in small letters and normal form KC.
        start: index of the word in `text`.
        end: index behind it.
        text: the text around it.
    """
    if word not in _UNITS and word not in _PERIODS:
        return False
    before = unicodedata.normalize("NFKC", text[max(start - _LONGEST, 0) : start])
    after = unicodedata.normalize("NFKC", text[end : end + _LONGEST])
    left, right = _PART_BEFORE.search(before), _PART_AFTER.match(after)
    parts = [match[1] for match in (left, right) if match is not None]
    if not all(len(part) == 1 or part.lower() in _UNITS or part in _PERIODS for part in parts):
        return False
    if word in _PERIODS:
        return left is not None
    if parts:
        return True
    if before.endswith("μ"):
        word, before = f"μ{word}", before[:-1]
    if _JOINED_BEFORE.search(before) or _JOINED_AFTER.match(after):
        return False
    is_glued = any(script_of(char) not in ("Common", "Latin") for char in (before[-1:], after[:1]) if char)
    return word in _SYMBOLS or (is_glued and word in _WORDS_GLUED)
