"""What counts as confusion, and in which parts of an answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from detectors import DetectorSet
from tlpo_ray.config.fields import LanguageName, Section

English = Literal["neutral", "confusion"]


class SegmentsConfig(Section):
    """How each part of an answer is judged: `prompt` (in the prompt's language), `exempt`, or a language of its own.

    Example: `{thoughts: en}` expects English thoughts, and the answer in the prompt's language.
    """

    thoughts: LanguageName = "prompt"
    """Thoughts, by the markers that models write: `<think>`, `[THINK]`, gpt-oss's channel `analysis`."""
    answer: LanguageName = "prompt"
    """The answer itself."""
    tool_calls: LanguageName = "prompt"
    """Text values in calls of tools; keys and names of tools are exempt."""
    code: LanguageName | None = None
    """String literals and comments in blocks of code. None judges code as part of the text around it, by the
    detector's setting `code`."""


class DetectorConfig(Section):
    """What counts as confusion, or as another error that is visible at one place in a text."""

    name: str = "language"
    """Detector: `language` finds words of a wrong language, `terms` forbidden terms; other packages may add more."""
    english: English = "neutral"
    """Meaning of English words. neutral: neither target nor confusion; confusion: all of them are confusion."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the detector itself, e.g. `passages: off` for `language` (detectors/options.py), `terms: [...]` for
    `terms`."""
    segments: SegmentsConfig | None = None
    """Parts of an answer that are judged each in its own way; none judges the whole answer as one text."""

    def detectors(self) -> DetectorSet:
        """Return the detectors of answers."""
        segments = None if self.segments is None else self.segments.model_dump(exclude_none=True)
        return DetectorSet(self.name, self.english, self.settings, segments)
