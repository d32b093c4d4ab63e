"""Reasons to drop a prompt when a dataset is prepared; those of Appendix B are in `appendix_b.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectors import covers
from tlpo_ray.data.prompts import Reject, too_long
from tlpo_ray.flow.records import Prompt

Spans = list[tuple[int, int]]
"""Code points [start, end) of a prompt's text."""


def _no_spans(prompt: Prompt) -> Spans:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason to drop prompts.

    Example: ``not_longer_than(500)``
    """

    reject: Reject
    """Returns the reason to drop a prompt, or None to keep it."""
    spans: Callable[[Prompt], Spans] = _no_spans
    """Returns the parts of a rejected prompt that are the reason; called for the examples in a report only."""


def in_language(language: str) -> Rule:
    """Return a rule that keeps prompts of one language."""
    return Rule(reject=lambda prompt: None if covers(language, prompt.language) else "is in another language")


def not_longer_than(max_characters: int) -> Rule:
    """Return a rule that keeps prompts of at most `max_characters` characters."""
    return Rule(reject=lambda prompt: too_long(max_characters) if len(prompt.text) > max_characters else None)


def no_duplicates() -> Rule:
    """Return a rule that keeps the first prompt of every text, white space aside.

    The rule remembers what it has seen: use it for one source, and as the last rule, so that a prompt which another
    rule drops does not count as seen.
    """
    seen: set[str] = set()

    def reject(prompt: Prompt) -> str | None:
        text = " ".join(prompt.text.split())
        if text in seen:
            return "is a duplicate"
        seen.add(text)
        return None

    return Rule(reject=reject)
