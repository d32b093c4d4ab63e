"""A detector that is not about language: terms that must not appear, as words or as patterns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectors.errors import SettingError
from detectors.find import Confusion

_WORD = re.compile(r"\w")


class TermsDetector:
    """Finds the first forbidden term.

    A term is found as a whole word where it begins or ends with a letter or digit, in any case of letters unless told
    otherwise. A pattern is a regular expression and found wherever it matches.

    Args:
        language: of the texts; terms are the same in all.
        english: not used.
        terms: forbidden words and phrases.
        patterns: forbidden regular expressions; they match within a line. One that looks ahead beyond its match may
            be judged otherwise while the text is being written.
        file: a text file with one more term a line; lines that begin with # are comments.
        ignore_case: whether "Foo" forbids "foo".

    Raises:
        SettingError: nothing is forbidden, a pattern is none or matches nothing at all, or the file cannot be read.
    """

    def __init__(
        self,
        language: str = "",
        english: str = "neutral",
        *,
        terms: Sequence[str] = (),
        patterns: Sequence[str] = (),
        file: str | None = None,
        ignore_case: bool = True,
    ) -> None:
        for name, given in (("terms", terms), ("patterns", patterns)):
            if not isinstance(given, list | tuple) or not all(isinstance(one, str) and one.strip() for one in given):
                raise SettingError(f"detector terms: {name}={given!r}: expected a list of texts")
        terms = [*terms, *(_read(file) if file else ())]
        if not (terms or patterns):
            raise SettingError("detector terms: nothing is forbidden; give terms, patterns or file")
        self._terms = [term.strip().lower() for term in terms]
        self._longest = max(map(len, self._terms), default=0)
        self._has_patterns = bool(patterns)
        parts = [*map(_as_word, sorted(set(terms), key=len, reverse=True)), *map(_checked, patterns)]
        self._pattern = re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE if ignore_case else 0)
        digest = hashlib.blake2b(self._pattern.pattern.encode(), digest_size=4).hexdigest()
        self.version = f"terms-1-{digest}{'' if ignore_case else '-case'}"

    def find(self, text: str, prefix: str = "", final: bool = True) -> Confusion | None:
        """The first forbidden term that ends in `text`; one that begins in `prefix` counts from 0 on.

        With `final` False a term is certain once no longer one can begin before it: "york" waits for "new york city".
        """
        whole, floor = prefix + text, len(prefix)
        start = whole.rfind("\n", 0, floor) + 1
        while start <= len(whole):
            end = whole.find("\n", start)
            is_last = end < 0
            match = self._first(whole, start, len(whole) if is_last else end, floor)
            if match is not None:
                if is_last and not final and self._may_move(whole, start, match):
                    return None
                index = max(match.start(), floor)
                return Confusion(index - floor, match.end() - floor, whole[index : match.end()], "term", "term")
            if is_last:
                break
            start = end + 1
        return None

    def _first(self, whole: str, start: int, end: int, floor: int) -> re.Match[str] | None:
        return next((match for match in self._pattern.finditer(whole, start, end) if match.end() > floor), None)

    def _may_move(self, whole: str, start: int, match: re.Match[str]) -> bool:
        """Whether more text on this line may begin a match further left, or undo this one."""
        if self._has_patterns or match.end() == len(whole):
            return True
        tails = (whole[at:].lower() for at in range(max(start, len(whole) - self._longest), match.start()))
        return any(term.startswith(tail) for tail in tails for term in self._terms)


def _as_word(term: str) -> str:
    term = term.strip()
    before = r"(?<!\w)" if _WORD.match(term[0]) else ""
    after = r"(?!\w)" if _WORD.match(term[-1]) else ""
    return before + re.escape(term) + after


def _checked(pattern: Any) -> str:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise SettingError(f"detector terms: {pattern!r} is no regular expression ({error})") from error
    if compiled.match("") is not None:
        raise SettingError(f"detector terms: the pattern {pattern!r} matches the empty text, so every text")
    return str(pattern)


def _read(file: str) -> list[str]:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"detector terms: cannot read {file}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
