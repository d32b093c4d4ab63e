"""A detector that judges each part of an answer in a language of its own, or not at all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from detectors.detector import CountsWords, Detector, spans
from detectors.finding import Finding
from detectors.literals import Literal, literal_values, literals_of_code
from detectors.markers import Markers, all_markers
from detectors.segments import PARTS, Part, Piece, Segmenter, part_at_start
from detectors.stream import Stream
from detectors.words import Counts


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of an answer."""

    part: Part
    start: int
    """Index of its first character in the answer."""
    text: str
    language: str = ""
    """Programming language of a block of code."""


class SegmentedDetector:
    """Judges each part of an answer by a detector of its own; a `Detector`.

    In thoughts and in the answer everything is judged, in calls of tools the text values, in blocks of code the string
    literals and comments. Markers belong to no part. A confusion in thoughts or in the answer is certain as soon as it
    is for the part's detector; one in a call or in a block of code, when that ends.

    Args:
        detectors: detector of each part; None exempts a part. Code without an entry is judged as part of the text
            around it.
        begins_in: part in which an answer begins: thoughts, if the prompt has opened them.
        markers: the markers between the parts; None is all that are known.
    """

    def __init__(
        self,
        detectors: Mapping[Part, Detector | None],
        begins_in: Part = "answer",
        markers: Markers | None = None,
    ) -> None:
        self.detectors = dict(detectors)
        self.begins_in = begins_in
        self.markers = markers or all_markers()

    @property
    def version(self) -> str:
        """Version of the parts' rules."""
        versions = sorted({detector.version for detector in self.detectors.values() if detector is not None})
        return "segments-2+" + "+".join(versions)

    @property
    def unchecked(self) -> str | None:
        """What the parts' detectors could check but do not; None if they check everything."""
        lines = {line for detector in self.detectors.values() if (line := getattr(detector, "unchecked", None))}
        return "; ".join(sorted(lines)) or None

    def beginning_in(self, part: Part) -> SegmentedDetector:
        """Return the same detector for answers that begin in a part."""
        return self if part == self.begins_in else SegmentedDetector(self.detectors, part, self.markers)

    def with_markers(self, markers: Markers) -> SegmentedDetector:
        """Return the same detector for answers of a model that writes these markers (`detectors.markers`)."""
        return SegmentedDetector(self.detectors, self.begins_in, markers)

    def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
        """Return the first finding in `text`, or None; see `Detector.find`."""
        if not final:
            return self.scan(prefix).feed(text)
        if not prefix:
            return next(self._findings(text), None)
        # What lies before decides in which part the text begins, and is the left context there.
        first = next(self._findings(prefix + text, len(prefix)), None)
        return None if first is None else _shifted(first, -len(prefix))

    def spans(self, text: str) -> list[Finding]:
        """Return all findings in a text, from left to right, without overlaps."""
        return list(self._findings(text))

    def scan(self, prefix: str = "") -> SegmentedScan:
        """Return a scan of an empty text that has `prefix` to its left."""
        return SegmentedScan(self, prefix)

    def count(self, text: str) -> Counts:
        """Count the words of the parts that are judged, and those that are wrong.

        Raises:
            MissingExtraError: a library that finds words or literals is not installed.
        """
        return added(self.count_parts(text).values())

    def count_parts(self, text: str) -> dict[Part, Counts]:
        """Return the counts of each part of an answer that is judged and there; their sum is `count`.

        Raises:
            MissingExtraError: a library that finds words or literals is not installed.
        """
        counts: dict[Part, list[Counts]] = {}
        for segment in self.segments(text):
            detector = self.detectors.get(segment.part)
            if isinstance(detector, CountsWords):
                texts = [literal.text for literal in _literals(segment)] if _has_literals(segment) else [segment.text]
                counts.setdefault(segment.part, []).extend(map(detector.count, texts))
        return {part: added(counts[part]) for part in PARTS if part in counts}

    def segments(self, text: str) -> list[Segment]:
        """Return the parts of a complete answer in their order."""
        segmenter = self.segmenter()
        segments: list[Segment] = []
        for piece in (*segmenter.push(text), *segmenter.close()):
            if piece.begins:
                segments.append(Segment(piece.part, piece.start, piece.text, piece.language))
            else:
                segments[-1] = replace(segments[-1], text=segments[-1].text + piece.text)
        return segments

    def part_at(self, text: str, index: int) -> Part:
        """Return the part of a complete answer that a character belongs to."""
        return next(segment.part for segment in reversed(self.segments(text)) if segment.start <= index)

    def parts_of(self, text: str, findings: Sequence[Finding]) -> list[Part]:
        """Return the part of a complete answer that each finding, from left to right, begins in."""
        segments = self.segments(text) if findings else []
        starts = [segment.start for segment in segments]
        return [segments[bisect_right(starts, found.start) - 1].part for found in findings]

    def is_open_at_end(self, text: str) -> bool:
        """Return whether a text ends inside its thoughts or a call of a tool."""
        segmenter = self.segmenter()
        for _ in (*segmenter.push(text), *segmenter.close()):
            pass
        return segmenter.part in ("thoughts", "tool_calls")

    def segmenter(self) -> Segmenter:
        """Return a segmenter of one answer."""
        return Segmenter(self.begins_in, code=self.detectors.get("code") is not None, markers=self.markers)

    def _findings(self, text: str, left: int = 0) -> Iterator[Finding]:
        """Yield the findings that begin at `left` or behind it."""
        for segment in self.segments(text):
            detector = self.detectors.get(segment.part)
            if detector is None or segment.start + len(segment.text) <= left:
                continue
            if _has_literals(segment):
                yield from (found for found in _in_literals(segment, detector) if found.start >= left)
                continue
            before = max(left - segment.start, 0)
            for found in _spans_behind(segment.text, before, detector):
                yield _shifted(found, segment.start + before)

    def __repr__(self) -> str:
        return f"SegmentedDetector({self.detectors}, begins_in={self.begins_in!r})"


class SegmentedScan:
    """One pass over an answer that may still grow; a `WeighingScan`."""

    def __init__(self, detector: SegmentedDetector, prefix: str = "") -> None:
        self._detector = detector
        self._segmenter = detector.segmenter()
        self._stream: Stream | None = None
        """Stream of the text that is being written; None in calls, in code and in what is exempt."""
        self._offset = 0
        """Index at which the stream's text begins, counted from the end of `prefix`."""
        self._buffered: Segment | None = None
        """Call or block of code that is being written."""
        self._weighs = False
        self._left = len(prefix)
        self._prefixed = ""
        """Text of the part that `prefix` ends in."""
        for piece in self._segmenter.push(prefix):
            self._read_prefix(piece)

    def feed(self, piece: str) -> Finding | None:
        """Append text; return the first finding once it is certain."""
        return self._first(self._segmenter.push(piece))

    def close(self) -> Finding | None:
        """Return the first finding in the text, which is now complete."""
        return self._first(self._segmenter.close()) or self._end_of_part()

    def copy(self) -> SegmentedScan:
        """Return an independent scan that continues from here."""
        twin = SegmentedScan.__new__(SegmentedScan)
        twin.__dict__.update(self.__dict__)
        twin._segmenter = self._segmenter.copy()
        twin._stream = None if self._stream is None else self._stream.copy()
        return twin

    def weigh(self) -> bool:
        """Weigh what follows; return False if that is of no use in the part that is being written."""
        self._weighs = self._stream is not None and self._stream.weigh()
        return self._weighs

    @property
    def is_own(self) -> bool:
        """Whether what has been fed since `weigh` is certainly right; always so in a part that is not judged."""
        return self._stream is None or self._stream.is_decided

    def _read_prefix(self, piece: Piece) -> None:
        """Take a piece that lies to the left of the text for the context of what follows."""
        detector = self._detector.detectors.get(piece.part)
        self._prefixed = piece.text if piece.begins else self._prefixed + piece.text
        self._stream = self._buffered = None
        if detector is None:
            return
        segment = Segment(
            piece.part, piece.start + len(piece.text) - len(self._prefixed), self._prefixed, piece.language
        )
        if _has_literals(segment):
            self._buffered = segment
        else:
            # A new one for each piece of the prefix, of which there are few.
            self._stream = Stream(detector, self._prefixed)
            self._offset = segment.start + len(self._prefixed) - self._left

    def _first(self, pieces: Iterator[Piece]) -> Finding | None:
        for piece in pieces:
            if piece.begins and (found := self._end_of_part()) is not None:
                return found
            detector = self._detector.detectors.get(piece.part)
            if piece.begins:
                self._begin(piece, detector)
            elif self._buffered is not None:
                self._buffered = replace(self._buffered, text=self._buffered.text + piece.text)
            if self._stream is not None and (found := self._stream.feed(piece.text)) is not None:
                return _shifted(found, self._offset)
        return None

    def _begin(self, piece: Piece, detector: Detector | None) -> None:
        segment = Segment(piece.part, piece.start, piece.text, piece.language)
        self._stream = self._buffered = None
        if detector is not None and _has_literals(segment):
            self._buffered = segment
        elif detector is not None:
            self._stream, self._offset = Stream(detector), piece.start - self._left
            if self._weighs:
                self._stream.weigh()

    def _end_of_part(self) -> Finding | None:
        """Return the first finding in the part that has ended."""
        if self._stream is not None:
            found = self._stream.close()
            return None if found is None else _shifted(found, self._offset)
        segment = self._buffered
        detector = None if segment is None else self._detector.detectors.get(segment.part)
        if segment is None or detector is None:
            return None
        found = next((each for each in _in_literals(segment, detector) if each.start >= self._left), None)
        return None if found is None else _shifted(found, -self._left)


def added(counts: Iterable[Counts]) -> Counts:
    """Return the sum of the counts of several texts."""
    words = confused_words = lines = confused_lines = 0
    statuses = set()
    for count in counts:
        words, confused_words = words + count.words, confused_words + count.confused_words
        lines, confused_lines = lines + count.lines, confused_lines + count.confused_lines
        statuses.add(count.status)
    return Counts(
        words=words,
        confused_words=confused_words,
        lines=lines,
        confused_lines=confused_lines,
        status="fail" if "fail" in statuses else "pass" if "pass" in statuses else "empty",
    )


def for_answer(detector: Detector, answer: str) -> Detector:
    """Return the detector for an answer without its prompt, which may begin in its thoughts."""
    return detector.beginning_in(part_at_start(answer)) if isinstance(detector, SegmentedDetector) else detector


def _has_literals(segment: Segment) -> bool:
    return segment.part in ("code", "tool_calls")


def _literals(segment: Segment) -> Iterator[Literal]:
    if segment.part == "tool_calls":
        return literal_values(segment.text)
    return literals_of_code(segment.text, segment.language) or iter(())


def _in_literals(segment: Segment, detector: Detector) -> Iterator[Finding]:
    """Yield the findings in the texts of a call or of a block of code, with their places in the answer."""
    for literal in _literals(segment):
        for found in spans(literal.text, detector):
            start, end = literal.places[found.start], literal.places[found.end - 1]
            end = max(end + 1, next((place for place in literal.places[found.end :] if place > end), end + 1))
            written = segment.text[start:end]
            yield Finding(segment.start + start, segment.start + end, written, found.kind, found.rule)


def _spans_behind(text: str, before: int, detector: Detector) -> Iterator[Finding]:
    """Yield the findings of a text behind its first `before` characters, counted from there."""
    if not before:
        yield from spans(text, detector)
    elif (first := detector.find(text[before:], text[:before])) is not None:
        yield first


def _shifted(found: Finding, by: int) -> Finding:
    return replace(found, start=found.start + by, end=found.end + by)
