"""The parts of an answer: thoughts, the answer itself, code, and calls of tools, by the markers that models write.

The markers are those that vLLM's parsers of reasoning and of tool calls know. They belong to no part themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Part = Literal["thoughts", "answer", "code", "tool_calls"]
PARTS: tuple[Part, ...] = get_args(Part)

_THOUGHTS = {
    "<think>": "</think>", "<thinking>": "</thinking>", "<mm:think>": "</mm:think>", "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
}  # fmt: skip
_TOOL_CALLS = {
    "<tool_call>": "</tool_call>", "<|tool_call>": "<tool_call|>", "[TOOL_CALLS]": "[/TOOL_CALLS]",
    "<|START_ACTION|>": "<|END_ACTION|>", "<|tool_calls_section_begin|>": "<|tool_calls_section_end|>",
    "<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>", "<|python_tag|>": "<|eom_id|>", "<minimax:tool_call>":
    "</minimax:tool_call>",
}  # fmt: skip
_MESSAGE = "<|message|>"
_HEADER = ("<|start|>", "<|channel|>", "<|constrain|>")
"""Markers of gpt-oss that begin or continue the header of a message; its channel names the part."""
_END_OF_MESSAGE = ("<|end|>", "<|return|>", "<|call|>")

_FENCE = re.compile(
    r"[ \t>]*(?:(?:[-*+]|[0-9]{1,3}[.)])[ \t]+)*(?P<bars>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^`\n]*\n"
)
_MAYBE_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|[0-9]{1,3}[.)])[ \t]*)*(?:`{0,2}|~{0,2}|(?:`{3,}|~{3,})[^`\n]*)")


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


@cache
def markers() -> Mapping[str, str]:
    """Return what comes after each marker: a part, `header` or `before` (the part before a call)."""
    after = dict.fromkeys(_THOUGHTS, "thoughts") | dict.fromkeys(_THOUGHTS.values(), "answer")
    after |= dict.fromkeys(_TOOL_CALLS, "tool_calls") | dict.fromkeys(_TOOL_CALLS.values(), "before")
    after |= dict.fromkeys((*_HEADER, *_END_OF_MESSAGE), "header")
    return after | {_MESSAGE: "message"}


@cache
def _marker() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(markers(), key=len, reverse=True))))


@cache
def _beginnings() -> frozenset[str]:
    """Return all texts with which a marker begins, without the complete ones."""
    return frozenset(marker[:length] for marker in markers() for length in range(1, len(marker)))


def part_after(text: str) -> Part:
    """Return the part in which an answer to a prompt begins.

    Args:
        text: the rendered prompt, or its end; a template may open the thoughts there, or open and close them.
    """
    segmenter = Segmenter()
    for _ in segmenter.push(text):
        pass
    return segmenter.part if segmenter.part == "thoughts" else "answer"


def part_at_start(answer: str) -> Part:
    """Return the part in which an answer without its prompt begins: thoughts, if they are closed and not opened."""
    first = next((match.group() for match in _marker().finditer(answer)), None)
    return "thoughts" if first in _THOUGHTS.values() else "answer"


class Segmenter:
    """Divides a growing answer into its parts. What may be the beginning of a marker is held back.

    Args:
        begins_in: part in which the answer begins.
        code: whether blocks of code are a part of their own.
    """

    def __init__(self, begins_in: Part = "answer", *, code: bool = False) -> None:
        self.part: Part | None = begins_in
        """Part at the end of what has been divided; None between parts."""
        self._code = code
        self._before: Part | None = begins_in
        """Part to go back to after a call or a block of code."""
        self._header = ""
        self._closing_fence: re.Pattern[str] | None = None
        self._language = ""
        self._begins = True
        self._at_line_start = True
        self._position = 0
        self._held = ""

    def copy(self) -> Segmenter:
        """Return an independent segmenter that continues from here."""
        twin = Segmenter.__new__(Segmenter)
        twin.__dict__.update(self.__dict__)
        return twin

    def push(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that more text makes certain."""
        self._held += text
        yield from self._divide(is_end=False)

    def close(self) -> Iterator[Piece]:
        """Yield the pieces that are left; the answer is complete."""
        yield from self._divide(is_end=True)

    def _divide(self, *, is_end: bool) -> Iterator[Piece]:
        while self._held:
            if self._code and (self._at_line_start or self.part == "code"):
                fence = self._fence_ahead(is_end)
                if fence is None:
                    return
                if fence:
                    continue
            length = self._plain_length(is_end)
            if length:
                yield from self._take(length)
            elif (marker := None if self.part == "code" else _marker().match(self._held)) is not None:
                self._pass(marker.end())
                self._switch(marker.group())
            else:
                return

    def _plain_length(self, is_end: bool) -> int:
        """Return how much of what is held is certainly no marker, as far as the next line where fences count."""
        text, end = self._held, len(self._held)
        if self._code:
            newline = text.find("\n")
            end = newline + 1 if newline >= 0 else end
            if self.part == "code":
                return end
        marker = _marker().search(text)
        if marker is not None and marker.start() < end:
            return marker.start()
        if not is_end and end == len(text):
            longest = max(map(len, markers()))
            for start in range(max(end - longest, 0), end):
                if text[start:] in _beginnings():
                    return start
        return end

    def _fence_ahead(self, is_end: bool) -> bool | None:
        """Pass a line that is a fence; return whether there was one, or None if that is not certain yet."""
        line_end = self._held.find("\n") + 1
        if self.part == "code":
            assert self._closing_fence is not None
            line = self._held[: line_end or len(self._held)]
            if not line_end and not is_end and re.fullmatch(r"[ \t>]*[`~]*[ \t]*", line):
                return None
            if not self._at_line_start or self._closing_fence.fullmatch(line) is None:
                return False
            self._pass(len(line))
            self._enter(self._before)
            return True
        if self.part not in ("answer", "thoughts"):
            return False
        if not line_end and not is_end and _MAYBE_FENCE.fullmatch(self._held):
            return None
        fence = _FENCE.match(self._held)
        if fence is None:
            return False
        self._before, self._language = self.part, fence["language"]
        bars = fence["bars"]
        self._closing_fence = re.compile(rf"[ \t>]*{re.escape(bars[0])}{{{len(bars)},}}[ \t]*\n?")
        self._pass(fence.end())
        self._enter("code")
        return True

    def _take(self, length: int) -> Iterator[Piece]:
        """Pass text without a marker, and yield it unless it is the header of a message."""
        text, start = self._held[:length], self._position
        self._pass(length)
        if self.part is None:
            self._header += text
            return
        language = self._language if self.part == "code" else ""
        yield Piece(part=self.part, start=start, text=text, begins=self._begins, language=language)
        self._begins = False

    def _pass(self, length: int) -> None:
        self._at_line_start = self._held[length - 1] == "\n"
        self._held = self._held[length:]
        self._position += length

    def _switch(self, marker: str) -> None:
        """Enter what comes after a marker."""
        after = markers()[marker]
        if after == "header":
            if marker in _END_OF_MESSAGE or marker == "<|start|>":
                self._header = ""
            self._enter(None)
        elif after == "message":
            is_call = " to=" in self._header
            self._enter("tool_calls" if is_call else "thoughts" if "analysis" in self._header else "answer")
        elif self.part == "tool_calls" and after not in ("before", "tool_calls"):
            pass  # inside a call, a marker is a text like any other
        elif after == "before":
            self._enter(self._before)
        elif after == "tool_calls":
            if self.part != "tool_calls":
                self._before = self.part
            self._enter("tool_calls")
        else:
            self._enter("thoughts" if after == "thoughts" else "answer")

    def _enter(self, part: Part | None) -> None:
        self.part, self._begins = part, True
