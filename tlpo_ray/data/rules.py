"""Reasons to drop a prompt when a dataset is prepared; those of Appendix B are in `appendix_b.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from detectors import covers
from tlpo_ray.data.prompts import Reject, too_long
from tlpo_ray.flow.conversation import SYSTEM_ROLES, text_of, texts_of
from tlpo_ray.flow.records import Prompt

OTHER_LANGUAGE = "is in another language"
Spans = list[tuple[int, int]]
"""Code points [start, end) of the text that a rule looks at."""


def _no_spans(prompt: Prompt) -> Spans:
    return []


def last_text(prompt: Prompt) -> str:
    """Return the prompt's text; of a conversation, the user's last message without the retrieved text."""
    return prompt.text


def user_text(prompt: Prompt) -> str:
    """Return the prompt's text; of a conversation, all that the user says, without the retrieved text."""
    return prompt.text if prompt.conversation is None else "\n\n".join(texts_of(prompt.conversation.messages, "user"))


def system_text(prompt: Prompt) -> str:
    """Return the system prompt of a conversation; empty if it has none of its own."""
    return "" if prompt.conversation is None else "\n\n".join(texts_of(prompt.conversation.messages, *SYSTEM_ROLES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason to drop prompts.

    Example: ``not_longer_than(500)``
    """

    reject: Reject
    """Returns the reason to drop a prompt, or None to keep it."""
    spans: Callable[[Prompt], Spans] = _no_spans
    """Returns the parts of a rejected prompt's `text` that are the reason; called for the examples in a report only."""
    text: Callable[[Prompt], str] = last_text
    """Returns the text of a rejected prompt that an example shows."""


def in_language(language: str) -> Rule:
    """Return a rule that keeps prompts of one language; examples show which language the others are in."""
    return Rule(
        reject=lambda prompt: None if covers(language, prompt.language) else OTHER_LANGUAGE,
        spans=lambda prompt: [(0, len(prompt.language))],
        text=lambda prompt: f"{prompt.language}: {prompt.text}",
    )


def not_longer_than(max_characters: int) -> Rule:
    """Return a rule that keeps prompts of at most `max_characters` characters (of a conversation: the last message)."""
    return Rule(reject=lambda prompt: too_long(max_characters) if len(prompt.text) > max_characters else None)


def no_duplicates() -> Rule:
    """Return a rule that keeps the first prompt of every text, or of every complete conversation, white space aside.

    The rule remembers what it has seen: use it for one source, and as the last rule, so that a prompt which another
    rule drops does not count as seen.
    """
    seen: set[str] = set()

    def reject(prompt: Prompt) -> str | None:
        text = _without_white_space(prompt)
        if text in seen:
            return "is a duplicate"
        seen.add(text)
        return None

    return Rule(reject=reject)


def _without_white_space(prompt: Prompt) -> str:
    if prompt.conversation is None:
        return " ".join(prompt.text.split())
    fields = prompt.conversation.to_json()
    fields["messages"] = [
        {**message, "content": " ".join(text_of(message).split())} for message in prompt.conversation.turns
    ]
    return json.dumps(fields, sort_keys=True)
