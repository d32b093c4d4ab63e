"""The markers between the parts of an answer, as vLLM's parsers of reasoning and of tool calls know them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Literal

Kind = Literal["thoughts", "answer", "tool_calls", "before", "header", "end", "message"]
"""What comes after a marker: a part, the part before a call, or the header of a message or its content; "end" is what
ends a message."""

THOUGHTS = {
    "<think>": "</think>", "<thinking>": "</thinking>", "<mm:think>": "</mm:think>", "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
}  # fmt: skip
"""Markers of thoughts: what opens them, and what closes them."""
TOOL_CALLS = {
    "<tool_call>": "</tool_call>", "<|tool_call>": "<tool_call|>", "[TOOL_CALLS]": "[/TOOL_CALLS]",
    "<|START_ACTION|>": "<|END_ACTION|>", "<|tool_calls_section_begin|>": "<|tool_calls_section_end|>",
    "<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>", "<|python_tag|>": "<|eom_id|>", "<minimax:tool_call>":
    "</minimax:tool_call>",
}  # fmt: skip
"""Markers of calls of tools: what opens them, and what closes them."""
_MESSAGES: Mapping[str, Kind] = {
    "<|start|>": "header", "<|channel|>": "header", "<|constrain|>": "header", "<|message|>": "message",
    "<|end|>": "end", "<|return|>": "end", "<|call|>": "end",
}  # fmt: skip
"""Markers of gpt-oss around the header of a message, whose channel names the part, and behind its content."""


class Markers:
    """A set of markers, with the patterns by which a text is searched for them.

    Args:
        kinds: what comes after each marker.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self.pattern = re.compile("|".join(map(re.escape, sorted(kinds, key=len, reverse=True))))
        self.beginnings = frozenset(marker[:length] for marker in kinds for length in range(1, len(marker)))
        """All texts with which a marker begins, without the complete ones."""
        self.longest = max(map(len, kinds))
        """Length of the longest marker."""


@cache
def all_markers() -> Markers:
    """Return all markers that are known."""
    return _with(frozenset(THOUGHTS), frozenset(TOOL_CALLS), frozenset(_MESSAGES))


def markers_of(vocabulary: Collection[str]) -> Markers:
    """Return the markers that a model can write, by the tokens that were added to its tokenizer.

    Where the tokenizer has tokens for markers of one kind, e.g. `<think>` and `</think>` for thoughts, the others of
    that kind are text; where it has none, a model may have learned to spell any of them.
    """
    return _with(
        *(_known(kind, vocabulary) for kind in (frozenset(THOUGHTS), frozenset(TOOL_CALLS), frozenset(_MESSAGES)))
    )


def _known(openers: frozenset[str], vocabulary: Collection[str]) -> frozenset[str]:
    # The token of Gemma's <|channel>thought is <|channel>.
    known = frozenset(
        marker for marker in openers if marker in vocabulary or marker.removesuffix("thought") in vocabulary
    )
    return known or openers


@cache
def _with(thoughts: frozenset[str], tool_calls: frozenset[str], messages: frozenset[str]) -> Markers:
    kinds: dict[str, Kind] = {}
    for opening, closing in THOUGHTS.items():
        kinds |= {opening: "thoughts", closing: "answer"} if opening in thoughts else {}
    for opening, closing in TOOL_CALLS.items():
        kinds |= {opening: "tool_calls", closing: "before"} if opening in tool_calls else {}
    return Markers(kinds | {marker: kind for marker, kind in _MESSAGES.items() if marker in messages})
