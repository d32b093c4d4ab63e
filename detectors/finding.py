"""Findings: what detectors return."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A place at which a text goes wrong, e.g. a word of another language or a forbidden term.

    Example: in "블랙홀의 중력은 настільки 강력하여" the Korean detector finds
    `Finding(9, 18, "настільки", kind="Cyrillic", rule="script")`.

    `index`, `script` and `tier` are the fields' earlier names; they can be read, not given.
    """

    start: int
    """Index of the first wrong code point, in the text as it was given."""
    end: int
    """Index one past the last wrong code point."""
    text: str
    """The wrong stretch of text itself."""
    kind: str
    """Kind of error: the Unicode script of the foreign letters, or a name chosen by another detector, e.g. `term`."""
    rule: str = "script"
    """Rule that the text breaks: `script`, `alphabet`, `word` or `passage`; other detectors name their own rules."""

    @property
    def index(self) -> int:
        """Earlier name of `start`."""
        return self.start

    @property
    def script(self) -> str:
        """Earlier name of `kind`."""
        return self.kind

    @property
    def tier(self) -> str:
        """Earlier name of `rule`."""
        return self.rule


Confusion = Finding
"""Earlier name of `Finding`, kept for one release."""
