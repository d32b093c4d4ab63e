"""A detector that is not about language: terms that must not appear, given as words or as patterns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectors.errors import SettingError
from detectors.finding import Finding

_WORD = re.compile(r"\w")


class TermsDetector:
    """Finds the first forbidden term of a text; a `Detector`.

    A term that begins or ends with a letter or a digit is found only as a complete word on that side. A pattern is a
    regular expression and is found wherever it matches.

    Args:
        language: language of the texts; ignored, since the terms are the same in all of them.
        terms: forbidden words and phrases.
        patterns: forbidden regular expressions, matched within a line. One that looks ahead beyond its match may get
            another verdict while the text is being written.
        file: path of a text file with one more term per line; lines that begin with # are comments.
        ignore_case: whether "Foo" also forbids "foo"; true by default, since a term at the start of a sentence has a
            capital.

    Raises:
        SettingError: nothing is forbidden, a pattern is invalid or matches the empty text, or the file is unreadable.
    """

    def __init__(
        self,
        language: str = "",
        *,
        terms: Sequence[str] = (),
        patterns: Sequence[str] = (),
        file: str | None = None,
        ignore_case: bool = True,
    ) -> None:
        for name, given in (("terms", terms), ("patterns", patterns)):
            if not isinstance(given, list | tuple) or not all(isinstance(text, str) and text.strip() for text in given):
                raise SettingError(f"detector terms: {name}={given!r}: expected a list of texts")
        terms = [*terms, *(_read(file) if file else ())]
        if not (terms or patterns):
            raise SettingError("detector terms: nothing is forbidden; give terms, patterns or file")
        self._terms = [term.strip().lower() for term in terms]
        self._longest = max(map(len, self._terms), default=0)
        self._has_patterns = bool(patterns)
        # Longest first: of two terms that begin at one place `re` takes the one that is listed first.
        parts = [*map(_as_word, sorted(set(terms), key=len, reverse=True)), *map(_checked, patterns)]
        self._pattern = re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE if ignore_case else 0)
        digest = hashlib.blake2b(self._pattern.pattern.encode(), digest_size=4).hexdigest()
        self.version = f"terms-1-{digest}{'' if ignore_case else '-case'}"

    def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
        """Return the first forbidden term that ends in `text`, or None; one that begins in `prefix` starts at 0.

        With `final` False a term is certain once no longer term can include it: "new york" waits for "new york city".

        Args:
            text: the text to judge.
            prefix: the text to its left.
            final: False if `text` may continue.
        """
        joined, floor = prefix + text, len(prefix)
        # Patterns match within a line, so the search begins with the line that the prefix ends in.
        start = joined.rfind("\n", 0, floor) + 1
        while start <= len(joined):
            end = joined.find("\n", start)
            is_last = end < 0
            match = self._first(joined, start, len(joined) if is_last else end, floor)
            if match is not None:
                if is_last and not final and self._may_move(joined, start, match):
                    return None
                first, last = max(match.start(), floor), match.end()
                return Finding(first - floor, last - floor, joined[first:last], kind="term", rule="term")
            if is_last:
                break
            start = end + 1
        return None

    def _first(self, joined: str, start: int, end: int, floor: int) -> re.Match[str] | None:
        """Return the first match between `start` and `end` that ends after `floor`."""
        return next((match for match in self._pattern.finditer(joined, start, end) if match.end() > floor), None)

    def _may_move(self, joined: str, start: int, match: re.Match[str]) -> bool:
        """Return whether more text on this line may lead to a match further left, or undo this one."""
        if self._has_patterns or match.end() == len(joined):
            return True
        tails = (joined[at:].lower() for at in range(max(start, len(joined) - self._longest), match.start()))
        return any(term.startswith(tail) for tail in tails for term in self._terms)


def _as_word(term: str) -> str:
    """Return the pattern of a term that is found only as a complete word."""
    term = term.strip()
    before = r"(?<!\w)" if _WORD.match(term[0]) else ""
    after = r"(?!\w)" if _WORD.match(term[-1]) else ""
    return before + re.escape(term) + after


def _checked(pattern: Any) -> str:
    """Return a pattern as it is, or raise the error about it."""
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise SettingError(f"detector terms: {pattern!r} is not a regular expression ({error})") from error
    if compiled.match("") is not None:
        raise SettingError(f"detector terms: the pattern {pattern!r} matches the empty text, so every text")
    return str(pattern)


def _read(file: str) -> list[str]:
    """Return the terms of a file."""
    try:
        # Not `splitlines`: a term may hold a character such as U+0085 or U+2028, which ends no line of a file.
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"detector terms: cannot read {file}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
