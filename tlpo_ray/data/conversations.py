"""What a record asks: a text or a conversation, in the forms in which public datasets and chat logs keep them.

The forms are OpenAI's `messages` (role, content; a content may be a list of parts), ShareGPT's `conversations` (from,
value) and TRL's `prompt` as a list of messages. All become the same `Conversation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.tables import Defect
from tlpo_ray.data.tool_calls import CALLERS, LEGACY_RESULT, calling_message, join_calls, with_legacy_call
from tlpo_ray.flow.conversation import SYSTEM_ROLES, Conversation, Message, text_of

CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
"""Fields in which public datasets keep conversations."""
SYSTEM_FIELDS = ("system", "system_prompt")
"""Fields beside a conversation with its system prompt."""
DOCUMENT_FIELDS = ("documents", "context")
"""Fields beside a conversation with text that was retrieved for it."""
MEDIA_FIELDS = ("image", "images", "video", "videos", "audio", "audios")
"""Fields beside a conversation with what belongs into it and is not text."""
INPUT_FIELD = "input"
"""Field of Bactrian-X with the text that an instruction refers to; it is appended to the instruction on a new line."""
NOT_TEXT = "has a part that is not text"
"""Reason under which conversations with images, audio and the like are counted."""
ROLES = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "bot": "assistant", "assistant": "assistant",
    "system": "system", "developer": "developer",
    "tool": "tool", "observation": "tool", "function_response": "tool", "tool_response": "tool",
    "function": "function", **dict.fromkeys(CALLERS, "assistant"),
}  # fmt: skip
"""Names of the speakers in public datasets, and their roles in chat templates."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_DOCUMENT_TEXTS = ("text", "content", "contents", "page_content", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a record asks.

    Example: ``Asked(text="서울의 인구는?", conversation=None)``
    """

    text: str
    """Text of the prompt; of a conversation, of the user's last message."""
    conversation: Conversation | None
    """The conversation; None for a prompt that is a single text."""
    answer: str | None = None
    """Answer that the conversation ended with and that was left out; None if it did not end with one."""
    context_field: str = ""
    """Field that the retrieved text comes from; empty without any."""


def asked(fields: Mapping[str, object], data: DataConfig) -> Asked | Defect | None:
    """Return what a record asks, what is wrong with it, or None if it has no prompt in the expected field.

    Args:
        fields: values of the record by field name.
        data: names of the fields.
    """
    name = _prompt_field(fields, data)
    value = _parsed(name, fields.get(name))
    if isinstance(value, str) and value.strip():
        return _asked_text(fields, name, value, data)
    if not isinstance(value, list):
        return None
    messages = _messages(name, value)
    return messages if isinstance(messages, Defect) else _asked_conversation(fields, name, messages, data)


def answer_text(value: object) -> str | None:
    """Return the answer in a field: a text, or the last assistant's message of a list; None if there is none."""
    if isinstance(value, list):
        messages = _messages("", value)
        texts = (
            [text_of(each) for each in messages if each["role"] == "assistant"] if isinstance(messages, list) else []
        )
        value = texts[-1] if texts else None
    return value if isinstance(value, str) and value.strip() else None


def _prompt_field(fields: Mapping[str, object], data: DataConfig) -> str:
    """Return the name of the field with the prompt."""
    default: str = DataConfig.model_fields["prompt_field"].default
    if data.prompt_field != default or fields.get(default) is not None:
        return data.prompt_field
    return next((name for name in CONVERSATION_FIELDS if fields.get(name) is not None), data.prompt_field)


def _parsed(name: str, value: object) -> object:
    """Return the value of a field; a conversation in a table without lists, e.g. a CSV file, is JSON text."""
    if name in CONVERSATION_FIELDS and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _asked_text(fields: Mapping[str, object], name: str, text: str, data: DataConfig) -> Asked | Defect:
    more = fields.get(INPUT_FIELD)
    if name != INPUT_FIELD and isinstance(more, str) and more.strip():
        text = f"{text}\n{more}"
    messages: list[Message] = [{"role": "user", "content": text}]
    made = _with_fields(fields, name, messages, _names(data.system_field), _names(data.context_field))
    if isinstance(made, Asked) and made.conversation == Conversation(messages=tuple(messages)):
        return Asked(text=text, conversation=None)
    return made


def _names(given: str | None, usual: tuple[str, ...] = ()) -> tuple[str, ...]:
    return usual if given is None else (given,)


def _asked_conversation(
    fields: Mapping[str, object], name: str, messages: list[Message], data: DataConfig
) -> Asked | Defect:
    """Return the conversation up to its last answer."""
    media = next((field for field in MEDIA_FIELDS if fields.get(field)), None)
    if media is not None:
        return Defect(NOT_TEXT, f": field {media!r} beside the conversation; only text is supported")
    tools = _tools(fields.get("tools"))
    if isinstance(tools, Defect):
        return tools
    answers: list[Message] = []
    while messages and messages[-1]["role"] == "assistant":
        answers.append(messages.pop())
    if not any(message["role"] == "user" for message in messages):
        return Defect(f"field {name!r} has no message of the user" + (" before its answer" if answers else ""))
    systems, documents = _names(data.system_field, SYSTEM_FIELDS), _names(data.context_field, DOCUMENT_FIELDS)
    made = _with_fields(fields, name, messages, systems, documents, tools)
    return replace(made, answer=text_of(answers[-1])) if answers and isinstance(made, Asked) else made


def _with_fields(
    fields: Mapping[str, object],
    name: str,
    messages: list[Message],
    system_fields: Sequence[str],
    document_fields: Sequence[str],
    tools: tuple[Mapping[str, Any], ...] = (),
) -> Asked | Defect:
    """Return messages as a conversation, with the record's own system prompt and retrieved text."""
    system, documents = _system(fields, messages, system_fields), _retrieved(fields, document_fields)
    if isinstance(system, Defect):
        return system
    if isinstance(documents, Defect):
        return documents
    field, retrieved = documents
    conversation = Conversation(messages=(*system, *messages), documents=retrieved, tools=tools)
    if not conversation.question.strip():
        return Defect(f"field {name!r}: the user's last message is empty")
    return Asked(text=conversation.question, conversation=conversation, context_field=field)


def _messages(name: str, values: Sequence[object]) -> list[Message] | Defect:
    if not values:
        return Defect(f"field {name!r} is empty")
    messages: list[Message] = []
    for number, value in enumerate(values, start=1):
        message = _message(value) if isinstance(value, Mapping) else _no_message(value)
        if isinstance(message, Defect):
            return Defect(message.kind, f" (message {number} of field {name!r}{message.detail})")
        if message["role"] == LEGACY_RESULT and any("tool_calls" in each for each in messages):
            message = {**message, "role": "tool"}
        join_calls(messages, message)
    return messages


def _no_message(value: object) -> Defect:
    return Defect("a message is not an object with role and content", f": found {type(value).__name__}")


def _message(value: Mapping[str, Any]) -> Message | Defect:
    """Return a message with its role and content in one form, and its other fields as they are."""
    is_share_gpt = "role" not in value and "from" in value
    speaker, content = (
        (value["from"], value.get("value")) if is_share_gpt else (value.get("role"), value.get("content"))
    )
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        return Defect("a message has an unknown role", f": {speaker!r}; known are {', '.join(ROLES)}")
    if isinstance(speaker, str) and speaker.strip().lower() in CALLERS:
        return calling_message(content)
    # Tables pad messages with nulls, and chat logs keep times and the like, which no template reads.
    others = {key: each for key, each in value.items() if each is not None and _is_json(each)}
    for key in ("role", "content", "from", "value"):
        others.pop(key, None)
    if content is None and (role != "assistant" or not others):
        return Defect("a message has no text", f", from {role}")
    read = content if content is None or isinstance(content, str) else _parts(content)
    return read if isinstance(read, Defect) else with_legacy_call({"role": role, "content": read, **others})


def _parts(content: object) -> str | list[dict[str, str]] | Defect:
    """Return a content that is a list of parts: the text of a single one, else parts in one form."""
    if not isinstance(content, list):
        return Defect("a content is neither a text nor a list of parts", f": found {type(content).__name__}")
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") in _TEXT_PARTS else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            return Defect(NOT_TEXT, f": a part of type {kind!r}; only text is supported")
        texts.append(text)
    return "".join(texts) if len(texts) < 2 else [{"type": "text", "text": text} for text in texts]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _system(fields: Mapping[str, object], messages: Sequence[Message], names: Sequence[str]) -> list[Message] | Defect:
    """Return the system prompt of a record that has it in a field of its own; empty if the messages have it."""
    name = next((name for name in names if fields.get(name)), None)
    if name is None:
        return []
    text = fields[name]
    if not isinstance(text, str):
        return Defect(f"field {name!r} holds {type(text).__name__}, not the text of a system prompt")
    if messages[0]["role"] not in SYSTEM_ROLES:
        return [{"role": "system", "content": text}] if text.strip() else []
    if text_of(messages[0]).strip() == text.strip():
        return []
    return Defect(f"has two system prompts, in field {name!r} and in its messages")


def _retrieved(fields: Mapping[str, object], names: Sequence[str]) -> tuple[str, str] | Defect:
    """Return the name of the field with retrieved text, and the text; both are empty without any."""
    for name in names:
        value = fields.get(name)
        documents = value if isinstance(value, list) else [value] if value else []
        texts = [_document(document) for document in documents]
        if None in texts:
            return Defect(f"field {name!r} holds something else than texts or documents with a text")
        if text := "\n\n".join(text for text in texts if text and text.strip()):
            return name, text
    return "", ""


def _document(value: object) -> str | None:
    """Return the text of a document, below its title if it has one; None if it is not a document."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return None
    text = next((value[key] for key in _DOCUMENT_TEXTS if isinstance(value.get(key), str)), None)
    title = value.get("title")
    return f"{title}\n{text}" if text is not None and isinstance(title, str) and title.strip() else text


def _tools(value: object) -> tuple[Mapping[str, Any], ...] | Defect:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Defect("field 'tools' is not JSON")
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) and _is_json(tool) for tool in value):
        return Defect("field 'tools' is not a list of functions")
    return tuple(value)
