"""The detector of language confusion: words, lines and passages in a language other than the expected one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import get_args

from detectors.errors import SettingError
from detectors.finding import Finding
from detectors.language_names import language_code
from detectors.language_profile import English, LanguageProfile, build_profile
from detectors.language_table import Language
from detectors.options import Options, checked_options
from detectors.scan import LanguageScan, is_clean
from detectors.words import Counts, count_words


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LanguageDetector:
    """Finds where a text leaves its language (Appendix F of the paper); a `Detector`.

    Made by `language`, which returns the same object for the same arguments. A detector holds no state of its own: one
    may be shared by threads, and a pickled one is the same object again where it is loaded.

    Args:
        profile: what is known about the language.
    """

    profile: LanguageProfile

    @property
    def code(self) -> str:
        """Code of the language, e.g. "ko" or "zh-Hant"."""
        return self.profile.code

    @property
    def language(self) -> Language:
        """The language's row in the language table."""
        return self.profile.language

    @property
    def english(self) -> English:
        """How English words count."""
        return self.profile.english

    @property
    def options(self) -> Options:
        """What is exempt, and which rules are used."""
        return self.profile.options

    @property
    def version(self) -> str:
        """Version of everything that decides a verdict beside the settings; written into every candidate group."""
        return self.profile.version

    @property
    def unchecked(self) -> str | None:
        """What could be checked and is not, as one line for the user; None if everything is checked."""
        return self.profile.unchecked

    def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
        """Return the first confusion in `text`, or None.

        Args:
            text: the text to judge. Lone surrogates (the bytes of unfinished characters) and U+FFFD are ignored: no
                confusion rests on them.
            prefix: the text to the left: context, never a confusion itself. A word that begins in it and ends in
                `text` is a confusion from index 0 on.
            final: False if `text` may continue. Then only a confusion that no continuation can move or remove counts.
        """
        if is_clean(text, self.profile, prefix):
            return None
        return LanguageScan(self.profile, prefix, text).next(final)

    def spans(self, text: str) -> list[Finding]:
        """Return all confusions of a text, from left to right, without overlaps."""
        return [] if is_clean(text, self.profile) else list(LanguageScan(self.profile, "", text))

    def scan(self, prefix: str = "") -> LanguageScan:
        """Return a scan of an empty text that has `prefix` to its left and grows by `feed`."""
        return LanguageScan(self.profile, prefix)

    def count(self, text: str) -> Counts:
        """Count the words of the language and the confused ones, and the lines.

        A word is a piece between white space or, in Chinese, Japanese and Thai, a word that jieba, MeCab or PyThaiNLP
        finds. A confused span that no white space separates from a word makes that word confused; otherwise the span's
        words are words of their own.

        Raises:
            MissingExtraError: the library that finds words of this language is not installed.
        """
        return count_words(text, self.spans(text), self.profile)

    def __repr__(self) -> str:
        return f"LanguageDetector({self.code!r}, english={self.english!r}, options={self.options})"

    def __reduce__(self) -> tuple[object, tuple[str, str, Options]]:
        return _build, (self.code, self.english, self.options)


def language(language: str, english: English = "neutral", **options: object) -> LanguageDetector:
    """Return the detector of a language; the same object for the same arguments.

    Example: `language("ko", hanja_in_brackets="exempt")` accepts 대한민국(大韓民國) as Korean.

    Args:
        language: code of the language, one of `languages()`, or another name of it (`language_code`).
        english: "neutral": English is neither target nor confusion; "confusion": any English is confusion.
        options: fields of `Options`.

    Raises:
        UnknownLanguageError: the language is not supported.
        SettingError: `english` or an option has no such value.
        MissingExtraError: `passages="on"` and wordfreq is not installed; or the language needs tables that are not.
    """
    code = language_code(language)
    if english not in get_args(English):
        raise SettingError(f"English setting {english!r}: expected neutral or confusion")
    return _build(code, english, checked_options(options))


profile = language
"""Earlier name of `language`, kept for one release."""
Profile = LanguageDetector
"""Earlier name of `LanguageDetector`, kept for one release."""


@cache
def _build(code: str, english: English, options: Options) -> LanguageDetector:
    return LanguageDetector(build_profile(code, english, options))
