"""What a detector finds in units, and the totals per language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import detectors
from tlpo_ray.detect.request import LANGUAGE_DETECTOR, DetectRequest
from tlpo_ray.detect.units import Unit


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

    def add(self, confused: bool, counts: detectors.Counts | None) -> None:
        """Add one unit.

        Args:
            confused: whether the detector found something in it.
            counts: its words; None if they were not counted.
        """
        self.units += 1
        self.confused += confused
        if counts is not None:
            self.rates = _add_rates(self.rates, detectors.rates_of([counts]))

    def __add__(self, other: LanguageTotals) -> LanguageTotals:
        rates = _add_rates(self.rates, other.rates)
        return LanguageTotals(self.units + other.units, self.confused + other.confused, rates)

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
        self._detectors = detectors.DetectorSet(request.detector, request.english, request.settings)
        self._word_counters: dict[str, detectors.CountsWords | None] = {}
        """Each language's detector if it can count words. Decided once, because `isinstance` of a protocol is slow."""
        self.totals: defaultdict[str, LanguageTotals] = defaultdict(LanguageTotals)
        """Totals by language; the key is empty where no language is known."""
        self.needs_language = request.detector == LANGUAGE_DETECTOR and request.language is None
        """Whether every unit has to state its language."""
        if not self.needs_language:
            _ = self._detectors[request.language or ""]  # raises what is wrong with it before anything is read

    def check(self, unit: Unit) -> tuple[str | None, Sequence[detectors.Finding]]:
        """Return language and findings of a unit; if words are counted, findings are not located.

        Raises:
            UnknownLanguageError: The detector does not support the unit's language.
            MissingExtraError: The library that splits this language into words is not installed.
        """
        language = self._language if self._language is not None else self._of_unit(unit)
        counts = None
        findings: Sequence[detectors.Finding] = ()
        if self._count_words and (counter := self._word_counter(language)) is not None:
            counts = detectors.count(unit.text, counter)
        else:
            findings = detectors.spans(unit.text, self._detectors[language])
        self.totals[language].add(bool(findings) if counts is None else counts.status == "fail", counts)
        return language or None, findings

    @property
    def total(self) -> LanguageTotals:
        """Totals over all languages."""
        return sum(self.totals.values(), LanguageTotals())

    def limitations(self) -> Iterator[str]:
        """Yield what the detectors do not check, with the languages among the units that this concerns."""
        unchecked: defaultdict[str, list[str]] = defaultdict(list)
        for language in sorted(self.totals):
            detector = self._word_counter(language)
            if detector is not None and detector.unchecked is not None:
                unchecked[detector.unchecked].append(language)
        for what, languages in unchecked.items():
            yield f"{', '.join(languages)}: {what}"

    def _of_unit(self, unit: Unit) -> str:
        """Return the language that a unit names."""
        name = unit.language or ""
        return detectors.code_or_name(name) if self._is_language_detector else name

    def _word_counter(self, language: str) -> detectors.CountsWords | None:
        if language not in self._word_counters:
            detector = self._detectors[language]
            self._word_counters[language] = detector if isinstance(detector, detectors.CountsWords) else None
        return self._word_counters[language]


def _add_rates(left: detectors.Rates | None, right: detectors.Rates | None) -> detectors.Rates | None:
    return left + right if left is not None and right is not None else left or right
