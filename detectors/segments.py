"""The parts of an answer: thoughts, the answer itself, code, and calls of tools, by the markers that models write.

The markers (`detectors/markers.py`) belong to no part themselves. One that an answer explains, in code or in quotation
marks, is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from detectors import fences
from detectors.markers import THOUGHTS, Kind, Markers, all_markers
from detectors.mentions import LONGEST, LONGEST_LINE, end_of_mention

Part = Literal["thoughts", "answer", "code", "tool_calls"]
PARTS: tuple[Part, ...] = get_args(Part)

_OPENERS: Mapping[Kind, Kind] = {"answer": "thoughts", "before": "tool_calls", "end": "message"}
"""Kinds of markers that close something, and the kinds that open it."""
_TURN = re.compile(r"<[|｜][^<>|｜\n]{1,40}[|｜]>|<(?:start|end)_of_turn>|<\|?turn\|?>|\[/?INST\]|</?s>")
"""What chat templates put between turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of one part of an answer, as far as it has been written."""

    part: Part
    start: int
    """Index of its first character in the answer."""
    text: str
    begins: bool
    """Whether the part begins with it; otherwise it continues the piece before."""
    language: str = ""
    """Name of the programming language that a block of code begins with."""


def part_after(text: str) -> Part:
    """Return the part in which an answer to a prompt begins.

    Args:
        text: the rendered prompt, or its end; a template may open the thoughts there, or open and close them.
    """
    kinds = all_markers().kinds
    # The turns before may quote a marker, or end inside their thoughts.
    begin = max((turn.end() for turn in _TURN.finditer(text) if turn.group() not in kinds), default=0)
    segmenter = Segmenter()
    for _ in segmenter.push(text[begin:]):
        pass
    return segmenter.part if segmenter.part == "thoughts" else "answer"


def part_at_start(answer: str) -> Part:
    """Return the part in which an answer without its prompt begins: thoughts, if they are closed and not opened."""
    segmenter = Segmenter()
    for _ in (*segmenter.push(answer), *segmenter.close()):
        if segmenter.first:
            break
    return "thoughts" if segmenter.first in THOUGHTS.values() else "answer"


class Segmenter:
    """Divides a growing answer into its parts. What may be the beginning of a marker is held back.

    A marker is text in a call of a tool, in a code span, at the beginning of a quotation, and in a block of code unless
    it closes what is open; one that opens thoughts, where something stands before it on its line.

    Args:
        begins_in: part in which the answer begins.
        code: whether blocks of code are a part of their own.
        markers: the markers that the model writes.
    """

    def __init__(self, begins_in: Part = "answer", *, code: bool = False, markers: Markers | None = None) -> None:
        self.part: Part | None = begins_in
        """Part at the end of what has been divided; None between parts."""
        self.first = ""
        """The first marker outside code and quotations; empty before there is one."""
        self._markers = markers or all_markers()
        self._code = code
        self._before: Part | None = begins_in
        """Part to go back to after a call or a block of code."""
        self._header = ""
        self._has_messages = False
        """Whether the answer consists of messages with headers."""
        self._closing_fence: re.Pattern[str] | None = None
        """What closes the block of code that is open."""
        self._inside: Mapping[Kind, int] = {}
        """Number of markers in the block of code that open something, less those that close it, by their kind."""
        self._language = ""
        self._begins = True
        self._line = ""
        """What stands before `_position` on its line, behind the last marker."""
        self._position = 0
        self._text_until = 0
        """Index up to which markers are text."""
        self._held = ""
        self._read = 0
        """Number of characters of `_held` that have been divided."""

    def copy(self) -> Segmenter:
        """Return an independent segmenter that continues from here."""
        twin = Segmenter.__new__(Segmenter)
        twin.__dict__.update(self.__dict__)
        return twin

    def push(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that more text makes certain."""
        self._held = self._held[self._read :] + text
        self._read = 0
        yield from _joined(self._divide(is_end=False))

    def close(self) -> Iterator[Piece]:
        """Yield the pieces that are left; the answer is complete."""
        yield from _joined(self._divide(is_end=True))

    def _divide(self, *, is_end: bool) -> Iterator[Piece]:
        while self._read < len(self._held):
            if not self._line:
                fence = self._fence_length(is_end)
                if fence is None:
                    return
                if fence:
                    yield from self._pass_fence(fence)
                    continue
            length = self._text_length(is_end)
            if length:
                yield from self._take(length)
                continue
            marker = self._markers.pattern.match(self._held, self._read)
            counts = None if marker is None else self._counts(marker.group(), is_end)
            if marker is None or counts is None:
                return
            if counts:
                self._pass(len(marker.group()))
                self._line = ""
                self._switch(marker.group())
            else:
                yield from self._take(len(marker.group()))

    def _text_length(self, is_end: bool) -> int:
        """Return how much of what is held is certainly no marker, up to the next line at most."""
        text, begin = self._held, self._read
        if self._position < self._text_until:
            return min(self._text_until - self._position, len(text) - begin)
        newline = text.find("\n", begin)
        end = newline + 1 if newline >= 0 else len(text)
        marker = self._markers.pattern.search(text, begin, end)
        if marker is not None:
            return marker.start() - begin
        if not is_end and newline < 0:
            for start in range(max(end - self._markers.longest, begin), end):
                if text[start:] in self._markers.beginnings:
                    return start - begin
        return end - begin

    def _fence_length(self, is_end: bool) -> int | None:
        """Return the length of the line ahead if it is a fence, or else 0; None if that is not certain yet."""
        line_end = self._held.find("\n", self._read) + 1
        if self._closing_fence is not None:
            line = self._held[self._read : line_end or len(self._held)]
            if not line_end and not is_end and fences.MAYBE_CLOSING.fullmatch(line):
                return None
            return len(line) if self._closing_fence.fullmatch(line.removesuffix("\n")) else 0
        if self.part not in ("answer", "thoughts"):
            return 0
        if not line_end and not is_end and fences.MAYBE_OPENING.fullmatch(self._held, self._read):
            return None
        fence = fences.OPENING.match(self._held, self._read)
        return 0 if fence is None else len(fence.group())

    def _pass_fence(self, length: int) -> Iterator[Piece]:
        """Pass a fence, which belongs to no part if blocks of code are one; otherwise yield it as text."""
        fence = None if self._closing_fence is not None else fences.OPENING.match(self._held, self._read)
        if self._code:
            self._pass(length)
        else:
            yield from self._take(length)
        if fence is None:
            if self._code:
                self._enter(self._before)
            self._closing_fence = None
            return
        if self._code:
            self._before, self._language = self.part, fence["language"]
            self._enter("code")
        self._closing_fence, self._inside = fences.closing(fence["bars"]), {}

    def _take(self, length: int) -> Iterator[Piece]:
        """Pass text without a marker, and yield it unless it is the header of a message."""
        text, start = self._held[self._read : self._read + length], self._position
        self._pass(length)
        if self.part is None:
            self._header += text
            return
        language = self._language if self.part == "code" else ""
        yield Piece(part=self.part, start=start, text=text, begins=self._begins, language=language)
        self._begins = False

    def _pass(self, length: int) -> None:
        _, newline, rest = self._held[self._read : self._read + length].rpartition("\n")
        self._line = (rest if newline else self._line + rest)[-LONGEST_LINE:]
        self._read += length
        self._position += length

    def _counts(self, marker: str, is_end: bool) -> bool | None:
        """Return whether the marker ahead is one, or text; None if that is not certain yet."""
        kind = self._markers.kinds[marker]
        if self.part is None:
            return True
        if self._closing_fence is not None:
            return self._closes_in_code(kind)
        ahead = self._held[self._read : self._read + len(marker) + LONGEST]
        is_end = is_end and len(ahead) == len(self._held) - self._read
        end = end_of_mention(self._line, ahead, len(marker), is_end=is_end)
        if end is None:
            return None
        if end:
            self._text_until = self._position + end
            return False
        self.first = self.first or marker
        if self.part == "tool_calls":
            return kind not in ("thoughts", "answer")
        return kind != "thoughts" or not self._line.strip()

    def _closes_in_code(self, kind: Kind) -> bool:
        """Return whether a marker in a block of code closes what was open before: the block was left open."""
        opens = _OPENERS.get(kind, kind)
        number = self._inside.get(opens, 0)
        if opens == kind:
            self._inside = {**self._inside, opens: number + 1}
            return False
        if number:
            self._inside = {**self._inside, opens: number - 1}
            return False
        part = self._before if self.part == "code" else self.part
        return self._has_messages if kind == "end" else opens == part

    def _switch(self, marker: str) -> None:
        """Enter what comes after a marker."""
        match self._markers.kinds[marker]:
            case "header" | "end":
                if marker not in ("<|channel|>", "<|constrain|>"):
                    self._header = ""
                self._enter(None)
            case "message":
                self._has_messages = True
                is_call = " to=" in self._header
                self._enter("tool_calls" if is_call else "thoughts" if "analysis" in self._header else "answer")
            case "before":
                self._enter(self._before if self.part == "tool_calls" else self.part)
            case "tool_calls":
                if self.part != "tool_calls":
                    self._before = self.part
                self._enter("tool_calls")
            case "thoughts" | "answer" as part:
                self._enter(part)

    def _enter(self, part: Part | None) -> None:
        self.part, self._begins, self._closing_fence = part, True, None


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces with those in one that continue each other."""
    pending: list[Piece] = []
    for piece in pieces:
        if pending and piece.begins:
            yield replace(pending[0], text="".join(each.text for each in pending))
            pending = []
        pending.append(piece)
    if pending:
        yield replace(pending[0], text="".join(each.text for each in pending))
