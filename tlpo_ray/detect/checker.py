"""What a detector finds in units, and the totals per language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import detectors
from detectors import SegmentedDetector
from detectors.segmented import added, for_answer
from detectors.segments import Part
from tlpo_ray.detect.request import LANGUAGE_DETECTOR, DetectRequest
from tlpo_ray.detect.units import Unit

_ANY = "en"
"""Language with which a request is tried where every unit names its own."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a detector found in one unit."""

    language: str | None
    """Language that the text should be in; None if the detector does not depend on one."""
    findings: Sequence[detectors.Finding]
    parts: Sequence[Part] = ()
    """The part of the answer that each finding is in; empty where parts are not judged apart."""


@dataclass(slots=True)
class LanguageTotals:
    """Totals over the units of one language, or of several.

    Example: ``LanguageTotals(units=200, confused=9)``
    """

    units: int = 0
    """Number of units."""
    confused: int = 0
    """Number of units in which the detector found something."""
    rates: detectors.Rates | None = None
    """Pass rates; None if words were not counted."""
    parts: dict[Part, detectors.Rates] = field(default_factory=dict)
    """Pass rates of each part of the answers, by the answers that have it; empty where parts are not judged apart."""

    def add(self, confused: bool, counts: detectors.Counts | None, parts: Mapping[Part, detectors.Counts]) -> None:
        """Add one unit.

        Args:
            confused: whether the detector found something in it.
            counts: its words; None if they were not counted.
            parts: the words of each of its parts, where parts are judged apart and words are counted.
        """
        self.units += 1
        self.confused += confused
        if counts is not None:
            self.rates = _add_rates(self.rates, detectors.rates_of([counts]))
        self._add_parts({part: detectors.rates_of([count]) for part, count in parts.items()})

    def __add__(self, other: LanguageTotals) -> LanguageTotals:
        rates = _add_rates(self.rates, other.rates)
        both = LanguageTotals(self.units + other.units, self.confused + other.confused, rates, dict(self.parts))
        both._add_parts(other.parts)
        return both

    def _add_parts(self, parts: Mapping[Part, detectors.Rates]) -> None:
        for part, rates in parts.items():
            self.parts[part] = self.parts[part] + rates if part in self.parts else rates

    @property
    def confused_share(self) -> float:
        """Share of confused units, 0 to 1; 0 without any units."""
        return self.confused / self.units if self.units else 0.0


class UnitChecker:
    """Checks units with the detector of their language, and keeps the totals.

    Args:
        request: detector, language and settings.

    Raises:
        DetectorError: The detector does not exist, or does not support the language or the settings.
    """

    def __init__(self, request: DetectRequest) -> None:
        self._language = request.language
        self._is_language_detector = request.detector == LANGUAGE_DETECTOR
        self._count_words = request.count_words
        self._detectors = detectors.DetectorSet(request.detector, request.english, request.settings, request.segments)
        self._counts: dict[str, bool] = {}
        """Whether each language's detector can count words. Decided once: `isinstance` of a protocol is slow."""
        self._open_lines = 0
        """Number of lines of plain text that end inside a part other than the answer."""
        self.totals: defaultdict[str, LanguageTotals] = defaultdict(LanguageTotals)
        """Totals by language; the key is empty where no language is known."""
        self.needs_language = request.detector == LANGUAGE_DETECTOR and request.language is None
        """Whether every unit has to state its language."""
        # Raises what is wrong with the request before anything is read; a part is wrong in every language.
        if not self.needs_language:
            _ = self._detectors[request.language or ""]
        elif request.segments is not None:
            _ = self._detectors[_ANY]

    def check(self, unit: Unit) -> Checked:
        """Return what is found in a unit; if words are counted, findings are not located.

        Raises:
            UnknownLanguageError: The detector does not support the unit's language.
            MissingExtraError: The library that splits this language into words is not installed.
        """
        language = self._language if self._language is not None else self._of_unit(unit)
        detector = for_answer(self._detectors[language], unit.text)
        segmented = detector if isinstance(detector, SegmentedDetector) else None
        counts: detectors.Counts | None = None
        parts: Mapping[Part, detectors.Counts] = {}
        findings: Sequence[detectors.Finding] = ()
        if not (self._count_words and self._can_count(language)):
            findings = detectors.spans(unit.text, detector)
        elif segmented is not None:
            parts = segmented.count_parts(unit.text)
            counts = added(parts.values())
        else:
            counts = detectors.count(unit.text, cast(detectors.CountsWords, detector))
        self.totals[language].add(bool(findings) if counts is None else counts.status == "fail", counts, parts)
        if segmented is None:
            return Checked(language or None, findings)
        self._open_lines += not unit.is_record and segmented.is_open_at_end(unit.text)
        return Checked(language or None, findings, segmented.parts_of(unit.text, findings))

    @property
    def total(self) -> LanguageTotals:
        """Totals over all languages."""
        return sum(self.totals.values(), LanguageTotals())

    def limitations(self) -> Iterator[str]:
        """Yield what the detectors do not check, with the languages among the units that this concerns."""
        unchecked: defaultdict[str, list[str]] = defaultdict(list)
        for language in sorted(self.totals):
            if self._can_count(language) and (what := getattr(self._detectors[language], "unchecked", None)):
                unchecked[what].append(language)
        for what, languages in unchecked.items():
            yield f"{', '.join(languages)}: {what}"
        if self._open_lines:
            yield (
                f"lines that end inside thoughts or a call: {self._open_lines:,}; every line of plain text is judged "
                "by itself, so give answers of several lines as records (JSONL, CSV)"
            )

    def _of_unit(self, unit: Unit) -> str:
        """Return the language that a unit names."""
        name = unit.language or ""
        return detectors.code_or_name(name) if self._is_language_detector else name

    def _can_count(self, language: str) -> bool:
        if language not in self._counts:
            detector = self._detectors[language]
            parts = detector.detectors.values() if isinstance(detector, SegmentedDetector) else (detector,)
            self._counts[language] = any(isinstance(each, detectors.CountsWords) for each in parts)
        return self._counts[language]


def _add_rates(left: detectors.Rates | None, right: detectors.Rates | None) -> detectors.Rates | None:
    return left + right if left is not None and right is not None else left or right
