"""Detection of confused text in files, as a library: nothing is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import detectors
from detectors.segments import Part
from tlpo_ray.data.tables import Defect
from tlpo_ray.detect.checker import LanguageTotals, UnitChecker
from tlpo_ray.detect.inputs import OnRead, Source, find_sources
from tlpo_ray.detect.request import DetectRequest
from tlpo_ray.detect.units import FieldNames, Unit, UnitReader
from tlpo_ray.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFindings:
    """What a detector found in one unit."""

    unit: Unit
    language: str | None
    """Language that the text should be in; None if the detector does not depend on one."""
    findings: Sequence[detectors.Finding]
    """Findings from left to right, in code points of `unit.text`; empty for a clean unit, and if words are counted."""
    parts: Sequence[Part] = ()
    """The part of the answer that each finding is in; empty where parts are not judged apart."""


class Detection:
    """One pass over the inputs of a request.

    Iterate over it once: inputs are read, and checked, as the iteration advances. The totals cover the units yielded so
    far.

    Example::

        detection = detect(DetectRequest(files=[Path("answers.jsonl")], language="ko"))
        for found in detection:
            print(found.unit.place, [finding.text for finding in found.findings])
        print(f"{detection.total.confused} of {detection.total.units} answers are confused")

    Args:
        request: what to read, and by which rule to check it.

    Raises:
        UserError: An option is wrong, or a file does not exist.
        DetectorError: The detector does not exist, or does not support the language or the settings.
    """

    def __init__(self, request: DetectRequest) -> None:
        self._checker = UnitChecker(request)
        self.sources: Sequence[Source] = _sources(request, self._checker.needs_language)
        """The inputs in the order in which they are read."""
        fields = FieldNames(
            text=request.text_field,
            language=request.language_field,
            needs_language=self._checker.needs_language,
        )
        self._reader = UnitReader(fields, request.skip_bad)

    def __iter__(self) -> Iterator[UnitFindings]:
        return self.findings()

    def findings(self, on_read: OnRead = lambda nbytes: None) -> Iterator[UnitFindings]:
        """Yield the findings of every unit; a clean unit has none.

        Args:
            on_read: receives the number of bytes read from disk, for a progress bar.

        Raises:
            UserError: An input cannot be read, lacks a field, or contains a malformed record that is not to be skipped.
            MissingExtraError: The library that splits a language into words is not installed.
        """
        for source in self.sources:
            for unit in self._reader.units(source, on_read):
                try:
                    found = self._checker.check(unit)
                except detectors.UnknownLanguageError as error:
                    # The record is at fault, not the request: its language was read from the record.
                    kind, separator, detail = str(error).partition("; ")
                    self._reader.reject(unit.place, Defect(kind, separator + detail))
                else:
                    yield UnitFindings(unit=unit, language=found.language, findings=found.findings, parts=found.parts)

    @property
    def totals(self) -> Mapping[str, LanguageTotals]:
        """Totals by language; the key is empty where no language is known."""
        return self._checker.totals

    @property
    def total(self) -> LanguageTotals:
        """Totals over all languages."""
        return self._checker.total

    @property
    def skipped(self) -> Mapping[str, int]:
        """Number of malformed records that were skipped, by what is wrong with them, the most frequent first."""
        return dict(self._reader.skipped.most_common())

    @property
    def not_utf8(self) -> int:
        """Number of lines with bytes that are not UTF-8; a detector ignores these bytes."""
        return self._reader.not_utf8

    @property
    def limitations(self) -> Sequence[str]:
        """What the detectors do not check in the languages found, one sentence each."""
        return tuple(self._checker.limitations())


def detect(request: DetectRequest) -> Detection:
    """Prepare the detection of confused text; iterate over the result to run it.

    Raises:
        UserError: An option is wrong, or a file does not exist.
        DetectorError: The detector does not exist, or does not support the language or the settings.
    """
    return Detection(request)


def _sources(request: DetectRequest, needs_language: bool) -> list[Source]:
    """Return what to read; raise for options that cannot apply to any of it."""
    if request.language is not None and request.language_field is not None:
        raise UserError("--language and --language-field: give one of them")
    field = request.text_field or request.language_field
    sources = find_sources(request.files, request.input_format, has_fields=field is not None)
    text = next((source.name for source in sources if source.format == "text"), None)
    if field is not None and all(source.format == "text" for source in sources):
        raise UserError(f"{text}: plain text has no field {field!r}; --input-format jsonl or csv reads records")
    if needs_language and text is not None:
        available = f"available: {', '.join(detectors.languages())}"
        raise UserError(f"--language is missing: plain text ({text}) does not state its language; {available}")
    return sources
