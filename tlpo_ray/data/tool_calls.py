"""Calls of tools as chat logs of ShareGPT's form have them: a turn of their own, whose text is the call as JSON.

They become what chat templates take: a message of the assistant with `tool_calls`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tlpo_ray.data.tables import Defect
from tlpo_ray.flow.conversation import Message

CALLERS = ("function_call", "function_calls", "tool_call", "tool_calls")
"""Names of the speaker of such a turn in public datasets."""
LEGACY_CALL, LEGACY_RESULT = "function_call", "function"
"""Field of a message with its one call, and role of the result, in OpenAI's form before there were `tool_calls`."""
_BAD_CALL = "a call of a tool is not a JSON object with name and arguments"
_THOUGHTS = "<think>", "</think>"


def calling_message(value: object) -> Message | Defect:
    """Return the assistant's message for a turn that is one call or a list of calls; thoughts may precede them.

    Args:
        value: text of the turn, or what it stands for.
    """
    content: str | None = None
    if isinstance(value, str):
        opening, closing = _THOUGHTS
        if value.lstrip().startswith(opening) and closing in value:
            thoughts, _, value = value.partition(closing)
            content = thoughts + closing
        value = _parsed(value)
    values = value if isinstance(value, list) else [value]
    calls = [_call(each) for each in values]
    if defect := next((each for each in calls if isinstance(each, Defect)), None):
        return defect
    return (
        {"role": "assistant", "content": content, "tool_calls": calls} if calls else Defect(_BAD_CALL, ": it is empty")
    )


def with_legacy_call(message: Message) -> Message | Defect:
    """Return a message whose call is in OpenAI's earlier field with the call in `tool_calls`, others as they are."""
    if message["role"] != "assistant" or LEGACY_CALL not in message or message.get("tool_calls"):
        return message
    call = _call(message[LEGACY_CALL])
    if isinstance(call, Defect):
        return call
    return {**{key: each for key, each in message.items() if key != LEGACY_CALL}, "tool_calls": [call]}


def join_calls(messages: list[Message], message: Message) -> None:
    """Append a message; a turn that is a call right behind another one is called in parallel with it."""
    last = messages[-1] if messages else {}
    if "tool_calls" in last and message.get("content") is None and "tool_calls" in message:
        messages[-1] = {**last, "tool_calls": [*last["tool_calls"], *message["tool_calls"]]}
    else:
        messages.append(message)


def _call(value: object) -> dict[str, Any] | Defect:
    """Return one call in the form of chat templates, with its arguments as an object."""
    inner = value.get("function", value) if isinstance(value, Mapping) else value
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str) or not name.strip():
        return Defect(_BAD_CALL, f": found {_shown(value)}")
    arguments = inner.get("arguments", inner.get("parameters"))
    arguments = _parsed(arguments) if isinstance(arguments, str) and arguments.strip() else arguments or {}
    if not isinstance(arguments, Mapping):
        return Defect(_BAD_CALL, f": the arguments of {name!r} are {_shown(arguments)}")
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def _parsed(text: str) -> object:
    """Return the JSON in a text; the text itself if it is something else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: object) -> str:
    return "text that is not JSON" if isinstance(value, str) else type(value).__name__
