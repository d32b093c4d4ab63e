"""Names of languages as people and files write them: codes, BCP 47 tags, English and own names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from detectors.errors import UnknownLanguageError
from detectors.language_table import LANGUAGES

SCRIPT_OF_REGION = {"cn": "hans", "sg": "hans", "my": "hans", "tw": "hant", "hk": "hant", "mo": "hant"}
"""Script in which Chinese is written in a region, in lower case."""
_VARIANTS = {
    **dict.fromkeys(("simplified", "简体", "china", "mainland-china", "singapore", "malaysia"), "zh-Hans"),
    **dict.fromkeys(("traditional", "繁體", "taiwan", "hong-kong", "macau", "macao"), "zh-Hant"),
}
"""Code by what people write behind the name of Chinese, folded."""
_QUALIFIED = re.compile(r"(?P<name>[^(),]+?)-?(?:\(|,-)(?P<more>[^()]+)\)?")
_OTHER_NAMES = {
    "ar": "ara arb standard-arabic العربية", "bn": "ben bangla বাংলা", "cs": "ces cze čeština", "da": "dan dansk",
    "de": "deu ger deutsch",
    "el": "ell gre ελληνικά", "en": "eng", "es": "spa castilian español castellano",
    "fa": "fas per pes farsi iranian-persian فارسی",
    "fi": "fin suomi", "fr": "fra fre français", "he": "heb iw עברית", "hi": "hin हिन्दी हिंदी", "hu": "hun magyar",
    "id": "ind in bahasa-indonesia", "it": "ita italiano", "ja": "jpn jp 日本語", "kk": "kaz қазақша",
    "ko": "kor 한국어",
    "ms": "msa may zsm standard-malay bahasa-melayu melayu", "ne": "nep npi नेपाली", "nl": "nld dut nederlands flemish",
    "pl": "pol polski", "pt": "por português brazilian-portuguese", "ro": "ron rum română moldavian",
    "ru": "rus русский", "sv": "swe svenska", "sw": "swa swh kiswahili", "th": "tha ไทย ภาษาไทย", "tr": "tur türkçe",
    "uk": "ukr українська", "ur": "urd اردو", "vi": "vie tiếng-việt", "yo": "yor yorùbá",
    "zh": "zho chi cmn mandarin mandarin-chinese standard-chinese 中文 汉语 漢語",
    "zh-Hans": "chs simplified-chinese chinese-(simplified) chinese-simplified chinese-(simplified-han) 简体中文 简体",
    "zh-Hant": "cht traditional-chinese chinese-(traditional) chinese-traditional chinese-(traditional-han) 繁體中文 "
    "繁体中文 正體中文 繁體",
}  # fmt: skip
"""Codes of three letters, earlier codes, and names by which a language goes, with hyphens for spaces."""
_TAG = re.compile(r"([a-z]{2,3})(?:-[a-z]{3})?(?:-([a-z]{4}))?(?:-([a-z]{2}|[0-9]{3}))?(?:-.*)?")


def language_code(name: str) -> str:
    """Return the code of the language table for the name of a language.

    Example: "ko" for "Korean", "ko-KR", "ko_KR.UTF-8", "kor" and "한국어"; "zh-Hant" for "zh_TW" and "zh-HK".

    Args:
        name: a code, a BCP 47 tag or a locale; or the name of the language in English or in itself.

    Raises:
        UnknownLanguageError: the table has no such language; the message names the nearest ones.
    """
    code = _code(name)
    if code is None:
        raise UnknownLanguageError(_unknown(name))
    return code


def code_or_name(name: str) -> str:
    """Return the code for the name of a language, or the name itself if it is none that the table has.

    For places that read a language of which a detector of one's own may know more.
    """
    return _code(name) or name


def selected(name: str, languages: Sequence[str]) -> str | None:
    """Return the one of several languages that a name stands for, or that covers it; None if there is none.

    Args:
        name: name of a language, e.g. the field of a record.
        languages: the languages, by any names.
    """
    return name if name in languages else next((language for language in languages if covers(language, name)), None)


def covers(language: str, name: str) -> bool:
    """Return whether a text in the language of a name is in a language: "zh" covers "zh-TW", as both are Chinese.

    Args:
        language: any name of a language.
        name: another one.
    """
    code, wanted = code_or_name(name), code_or_name(language)
    return wanted in (code, code.split("-")[0])


@lru_cache(maxsize=4096)  # a file has a few languages, and one of them in every record
def _code(name: str) -> str | None:
    """Return the code for the name of a language; None if the table has no such language."""
    if name in LANGUAGES:
        return name
    written = _folded(name).removesuffix("-language")
    code = _names().get(written) or _from_tag(written.split(".")[0].split("@")[0]) or _names_in_cldr().get(written)
    return code or _from_qualified(written)


def _from_qualified(written: str) -> str | None:
    """Return the code for a folded name with a region or a script behind it, e.g. "korean-(south-korea)"."""
    qualified = _QUALIFIED.fullmatch(written)
    code = None if qualified is None else _code(qualified["name"])
    if qualified is None or code is None:
        return None
    variants = [_VARIANTS[each] for each in re.split(r",-?", qualified["more"]) if each in _VARIANTS]
    if code == "zh" and variants:
        return variants[0]
    return code if written.endswith(")") else None  # behind a comma may be a second language


def _from_tag(tag: str) -> str | None:
    """Return the code for a BCP 47 tag in lower case."""
    parts = _TAG.fullmatch(tag)
    if parts is None:
        return None
    code = _names().get(parts[1])
    if code != "zh":
        return code
    script = parts[2] or SCRIPT_OF_REGION.get(parts[3] or "")
    return {"hans": "zh-Hans", "hant": "zh-Hant"}.get(script or "", "zh")


def _folded(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold().strip()
    return re.sub(r"[\s_]+", "-", folded)


@cache
def _names() -> dict[str, str]:
    """Return the code by every name of a language, folded."""
    names = {_folded(row.name): code for code, row in LANGUAGES.items()} | {_folded(code): code for code in LANGUAGES}
    return names | {_folded(name): code for code, others in _OTHER_NAMES.items() for name in others.split()}


@cache
def _names_in_cldr() -> dict[str, str]:
    """Return the code by the folded names that languages have in each other, and those of their variants."""
    from babel import Locale  # late: this takes most of a second, and few names need it

    names: dict[str, str] = {}
    for display in LANGUAGES:
        for tag, name in Locale.parse(display, sep="-").languages.items():
            code = None if tag.endswith("_Latn") else _from_tag(_folded(tag))
            if code is not None:
                names.setdefault(_folded(name), code)
    return names


def _unknown(name: str) -> str:
    written = _folded(name)
    codes = dict.fromkeys(_names()[near] for near in difflib.get_close_matches(written, _names(), 2, 0.6))
    nearest = f"; nearest: {', '.join(codes)}" if codes else ""
    return f"language {name!r}: no detector for it{nearest}; available: {', '.join(LANGUAGES)}"
