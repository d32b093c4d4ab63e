"""What `detect` can be asked to do.

The command line takes its defaults from here, so this module imports nothing that would slow `tlpo --help` down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from detectors import English

InputFormat = Literal["text", "jsonl", "csv"]
LANGUAGE_DETECTOR = "language"
"""Name of the detector that finds words of another language; the others do not depend on a language."""


@dataclass(frozen=True, kw_only=True)
class DetectRequest:
    """Texts to check, and the rule to check them by.

    Example: ``DetectRequest(files=[Path("answers.jsonl")], language="ko", english="confusion")``
    """

    files: Sequence[Path] = ()
    """Files and folders; none, or `-`, is standard input."""
    input_format: InputFormat | None = None
    """Format of all files; None decides by the end of each name."""
    text_field: str | None = None
    """Field of a record with the text; None selects the one field that plainly is the text."""
    language: str | None = None
    """Two-letter code of the language of all texts; None reads it from each record."""
    language_field: str | None = None
    """Field of a record with its language; None means `language` or `lang`."""
    english: English = "neutral"
    """Whether English words in texts of other languages are confusion."""
    detector: str = LANGUAGE_DETECTOR
    """Name of an installed detector."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The detector's own settings."""
    segments: Mapping[str, str] | None = None
    """How each part of an answer is judged (`detector.segments`); None judges every text as one."""
    count_words: bool = False
    """Whether a language detector counts words, for pass rates, instead of locating every finding."""
    skip_bad: bool = False
    """Whether malformed records are counted instead of raised."""

    def __post_init__(self) -> None:
        """Take any name of a language for its code, if it is a language detector that reads it."""
        from detectors.language_names import code_or_name

        if self.language is not None and self.detector == LANGUAGE_DETECTOR:
            object.__setattr__(self, "language", code_or_name(self.language))
