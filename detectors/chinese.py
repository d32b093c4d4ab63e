"""Which Chinese characters give away simplified, traditional and Japanese writing, by the tables of OpenCC.

A character that stands for several of the other writing is no evidence: 后 is simplified for 後, and traditional for
"empress".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib import metadata, resources
from importlib.util import find_spec

from detectors.errors import MissingExtraError
from detectors.script_ranges import RANGES
from detectors.scripts import ranges_of

TABLES = "opencc-python-reimplemented"
"""Package that has the tables of OpenCC as text files."""
_IN_BOTH = "雇霉肴虱晒扑苧床"
"""Characters with which traditional writing has more than one standard, although OpenCC converts them to another."""
_GB, _BIG5 = "gb2312", "big5"
_JIS = ("cp932", "shift_jis_2004")
"""JIS X 0208 with the additions of makers, and JIS X 0213. (Python's `euc_jis_2004` has JIS X 0212, too.)"""


def is_installed() -> bool:
    """Return whether the tables are there."""
    return find_spec("opencc") is not None


def tables_version() -> str:
    """Return the version of the tables, on which verdicts depend."""
    return f"opencc-{metadata.version(TABLES)}"


@cache
def traditional_only() -> str:
    """Return the characters that simplified Chinese does not have, and those of Japanese alone.

    Raises:
        MissingExtraError: the tables are not installed.
    """
    # Those in GB 2312 are simplified standard too, as 吒 in a name; but for 後, which is there as a surname.
    converted = {char for char, others in _table("TSCharacters") if char not in others}
    return _sorted({char for char in converted if char == "後" or not _has(_GB, char)} | _japanese_only())


@cache
def simplified_only() -> str:
    """Return the characters that traditional Chinese does not have, and those of Japanese alone.

    Raises:
        MissingExtraError: the tables are not installed.
    """
    converted = {char for char, others in _table("STCharacters") if char not in others}
    regional = {char for name in ("TWVariants", "HKVariants") for _, others in _table(name) for char in others}
    return _sorted(converted - regional - set(_IN_BOTH) | _japanese_only())


def _japanese_only() -> set[str]:
    """Return the forms that the Japanese reform made, and neither Chinese writing has: 図, 実, 対."""
    forms = {char for _, others in _table("JPVariants") for char in others}
    chinese = {
        char for name in ("STCharacters", "TSCharacters") for char, others in _table(name) for char in (char, *others)
    }
    return {char for char in forms - chinese if not _has(_GB, char) and not _has(_BIG5, char)}


@cache
def not_in_japanese() -> str:
    """Return the characters of GB 2312 that neither Japanese nor traditional Chinese writes: simplified forms."""
    rows = (bytes((high, low)).decode(_GB, "ignore") for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF))
    return "".join(char for char in rows if char and not any(_has(code, char) for code in (*_JIS, _BIG5)))


def compatibility_forms(letters: str) -> str:
    """Return the other code points of letters: radicals (⾞ is 車), compatibility ideographs, squared words (㍿)."""
    chars = set(letters)
    return "".join(form for form, normal in _normal_forms() if not chars.isdisjoint(normal))


@cache
def _normal_forms() -> tuple[tuple[str, str], ...]:
    """Return the characters of the Han script that have another normal form, each with it."""
    han = (chr(code) for first, last in ranges_of(RANGES["Han"]) for code in range(first, last + 1))
    return tuple((char, normal) for char in han if (normal := unicodedata.normalize("NFKC", char)) != char)


def _has(encoding: str, char: str) -> bool:
    return bool(char.encode(encoding, "ignore"))


def _sorted(chars: set[str]) -> str:
    return "".join(sorted(chars))


def _table(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the characters of a table of OpenCC, each with those that it may become."""
    if not is_installed():
        raise MissingExtraError(f"zh-Hans and zh-Hant need {TABLES}: pip install 'tlpo-ray[languages]'")
    text = resources.files("opencc").joinpath(f"dictionary/{name}.txt").read_text(encoding="utf-8")
    for line in text.split("\n"):
        char, tab, others = line.partition("\t")
        if tab and len(char) == 1:
            yield char, tuple(other for other in others.split() if len(other) == 1)
