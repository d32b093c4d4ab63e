"""A prompt that is a conversation: its messages, and what else the chat template is given with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Message = Mapping[str, Any]
"""One message of a conversation, with its `role` and `content`: a text, a list of parts that are texts, or None."""

SYSTEM_ROLES = ("system", "developer")
"""Roles of a system prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation up to the point where the answer begins.

    Example: ``Conversation(messages=({"role": "system", "content": "짧게."}, {"role": "user", "content": "안녕?"}))``
    """

    messages: tuple[Message, ...]
    """Messages with their own fields, e.g. `tool_calls`; one of them at least is the user's."""
    documents: str = ""
    """Retrieved text; it precedes the user's last message."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions that the model may call, as JSON schemas."""

    @property
    def question(self) -> str:
        """Text of the user's last message, without the retrieved text."""
        return texts_of(self.messages, "user")[-1]

    @property
    def turns(self) -> list[Message]:
        """Messages as the chat template is given them, with the retrieved text in its place."""
        if not self.documents:
            return list(self.messages)
        last = max(number for number, message in enumerate(self.messages) if message["role"] == "user")
        content = f"{self.documents}\n\n{text_of(self.messages[last])}"
        return [*self.messages[:last], {**self.messages[last], "content": content}, *self.messages[last + 1 :]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields that a prompt file has for this conversation."""
        fields: dict[str, Any] = {"messages": [dict(message) for message in self.messages]}
        if self.documents:
            fields["documents"] = self.documents
        if self.tools:
            fields["tools"] = [dict(tool) for tool in self.tools]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the conversation whose `to_json` is given.

        Raises:
            KeyError, TypeError: The fields are something else.
        """
        return cls(
            messages=tuple(dict(message) for message in fields["messages"]),
            documents=str(fields.get("documents", "")),
            tools=tuple(dict(tool) for tool in fields.get("tools", ())),
        )

    def dumps(self) -> str:
        """Return the conversation as JSON text."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @classmethod
    def loads(cls, dumped: str) -> Self:
        """Return the conversation whose `dumps` is given.

        Raises:
            ValueError, KeyError, TypeError: The text is something else.
        """
        return cls.from_json(json.loads(dumped))


def text_of(message: Message) -> str:
    """Return the text of a message; several parts are put on lines of their own, and no content is the empty text."""
    return "\n".join(parts_of(message))


def parts_of(message: Message) -> list[str]:
    """Return the texts of a message: one, or those of its parts."""
    content = message.get("content")
    if content is None:
        return []
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def texts_of(messages: Sequence[Message], *roles: str) -> list[str]:
    """Return the texts of the messages that have one of these roles."""
    return [text_of(message) for message in messages if message["role"] in roles]
