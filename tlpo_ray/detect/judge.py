"""What a detector says of units, and how that adds up by language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import detectors
from tlpo_ray.detect.units import Unit

LANGUAGE_DETECTOR = "language"


@dataclass(slots=True)
class Tally:
    """What became of the units of one language."""

    units: int = 0
    confused: int = 0
    rates: detectors.Rates | None = None
    """None where words were not counted."""

    def add(self, confused: bool, counts: detectors.Counts | None) -> None:
        """One more unit."""
        self.units += 1
        self.confused += confused
        if counts is not None:
            self.rates = _sum(self.rates, detectors.rates_of([counts]))

    def __add__(self, other: Tally) -> Tally:
        rates = _sum(self.rates, other.rates)
        return Tally(self.units + other.units, self.confused + other.confused, rates)

    @property
    def rate(self) -> float:
        """Share of units with something found; 0 when there is no unit."""
        return self.confused / self.units if self.units else 0.0


class Judge:
    """One detector a language, made when its first unit comes, and what they have said so far.

    Args:
        detector: name of an installed one.
        language: of all units; None asks each.
        counts_words: whether pass rates are wanted, rather than spans.

    Raises:
        DetectorError: there is no such detector, or it does not take the language or the settings.
    """

    def __init__(
        self,
        detector: str,
        language: str | None,
        english: detectors.English,
        settings: Mapping[str, Any],
        counts_words: bool,
    ) -> None:
        self._name = detector
        self._language = language
        self._english: detectors.English = english
        self._settings = settings
        self._counts_words = counts_words
        self._detectors: dict[str, detectors.Detector] = {}
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        """By language."""
        self.needs_language = detector == LANGUAGE_DETECTOR and language is None
        """Whether it takes only units that say their language."""
        if not self.needs_language:
            self._detector(language or "")  # what is wrong with it shows before anything is read

    def judge(self, unit: Unit) -> tuple[str | None, Sequence[detectors.Confusion]]:
        """Language and spans of a unit; where words are counted, spans are not looked for.

        Raises:
            UnknownLanguageError: the detector does not know the unit's language.
            MissingExtraError: the library that finds words of this language is not installed.
        """
        language = self._language if self._language is not None else unit.language or ""
        detector = self._detector(language)
        counts = None
        spans: Sequence[detectors.Confusion] = ()
        if self._counts_words and isinstance(detector, detectors.Profile):
            counts = detectors.count(unit.text, detector)
        else:
            spans = detectors.spans(unit.text, detector)
        self.tallies[language].add(bool(spans) if counts is None else counts.status == "fail", counts)
        return language or None, spans

    @property
    def total(self) -> Tally:
        """Of all languages."""
        return sum(self.tallies.values(), Tally())

    @property
    def notes(self) -> Iterator[str]:
        """What is not checked, and in which languages."""
        unchecked: defaultdict[str, list[str]] = defaultdict(list)
        for language in sorted(self.tallies):
            detector = self._detectors[language]
            if isinstance(detector, detectors.Profile) and detector.unchecked is not None:
                unchecked[detector.unchecked].append(language)
        for what, languages in unchecked.items():
            yield f"{', '.join(languages)}: {what}"

    def _detector(self, language: str) -> detectors.Detector:
        if language not in self._detectors:
            self._detectors[language] = detectors.build_detector(self._name, language, self._english, self._settings)
        return self._detectors[language]


def _sum(one: detectors.Rates | None, other: detectors.Rates | None) -> detectors.Rates | None:
    return one + other if one is not None and other is not None else one or other
