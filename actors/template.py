"""The tokenizer's chat template: a conversation as one text, and the check that the template has kept all of it."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import PromptError
from tlpo_ray.flow.conversation import SYSTEM_ROLES, Message, parts_of, text_of

PROBE = "\n\n".join(
    10 * [5 * 'Says  she: "It\'s <b>A</b> & {prompt} \\ 100 %…"\tМосква 서울, 東京、北京。 القاهرة; दिल्ली? 🙂 ']
)
"""Prompt by which a chat template is tested: what templates change (capitals, line breaks, runs of spaces, quotation
marks, markup, letters of any script), and more of it than templates that truncate would leave."""
PARTS = (("user", "assistant"), ("system", "user", "assistant"))
"""Roles whose contents are passed as lists of parts, in the order in which that is tried."""
END_OF_THOUGHTS = "</think>"
"""Templates leave the thoughts of earlier answers out, which end with this."""

_Given = Callable[[Message], dict[str, Any]]
"""Returns a message in the form in which a template is given it."""


def chat_text(
    tokenizer: Any,
    model: ModelConfig,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    **options: Any,
) -> str:
    """Return a conversation in the tokenizer's chat template.

    The template is given contents as the messages have them. If it drops or refuses texts, they are passed as lists of
    parts, which templates of models of text and images may expect, and lists of parts are passed as texts; provided
    that the template keeps them in that form.

    Args:
        tokenizer: A tokenizer with a chat template.
        model: Model settings, for the template arguments and the date.
        messages: The conversation.
        tools: Functions that the model may call.
        options: Arguments of transformers' `apply_chat_template`; by default, the answer is what comes next.

    Raises:
        PromptError: The template drops or changes a message, a call of a tool, or a tool.
        Exception: Whatever the template raises.
    """
    arguments = {"add_generation_prompt": True, **_date(model), **model.chat_template_kwargs, **options}
    if tools:
        arguments["tools"] = [dict(tool) for tool in tools]

    def render(messages: Sequence[Message], given: _Given) -> str:
        rendered: str = tokenizer.apply_chat_template([given(each) for each in messages], tokenize=False, **arguments)
        if (lost := _lost(messages, tools, rendered)) is not None:
            is_own = model.system_prompt and lost.get("content") == model.system_prompt
            raise PromptError(f"its chat template drops or changes {'model.system_prompt' if is_own else lost['part']}")
        return rendered

    as_parts = [partial(_in_parts, roles=roles) for roles in PARTS]
    has_parts = any(isinstance(message.get("content"), list) for message in messages)
    probes = probes_of(messages)
    failure: Exception | None = None
    forms: list[_Given] = [*([_as_given] if has_parts else []), _as_text, *as_parts]
    for given in forms:
        try:
            if given is not _as_text:
                # The probe shows that the parts are read: some templates print the list itself, with the text in it.
                render(probes, given)
            return render(messages, given)
        except Exception as error:  # templates raise nearly every kind of exception about a content of another type
            failure = error if given is _as_text else failure
    assert failure is not None, "the loop has tried texts"
    raise failure


def probes_of(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation of the same form in which every text is a `PROBE` of its own."""
    return [
        {**message, "content": _probe(message.get("content"), f"{number}. {PROBE}")}
        for number, message in enumerate(messages)
    ]


def _probe(content: object, probe: str) -> object:
    if isinstance(content, list):
        return [{"type": "text", "text": f"{number}. {probe}"} for number, _ in enumerate(content)]
    return probe if content else content


def _as_given(message: Message) -> dict[str, Any]:
    return dict(message)


def _as_text(message: Message) -> dict[str, Any]:
    return {**message, "content": text_of(message)} if message.get("content") is not None else dict(message)


def _in_parts(message: Message, roles: Sequence[str]) -> dict[str, Any]:
    if message["role"] not in roles or message.get("content") is None:
        return dict(message)
    return {**message, "content": [{"type": "text", "text": text} for text in parts_of(message)]}


def _lost(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], rendered: str) -> dict[str, str] | None:
    """Return the `part` of a conversation that is not in the rendered text, with its `content`; None if all of it is.

    Texts are compared without white space at their ends, which many templates remove. They must follow each other, and
    a text that occurs twice must be there twice; only a system prompt may be anywhere, e.g. before the last message.
    """
    called = Counter(name for message in messages for name in _names(message.get("tool_calls")))
    if any(rendered.count(name) < number for name, number in called.items()):
        return {"part": "a call of a tool"}
    if any(rendered.count(name) <= called[name] for name in _names(tools)):
        return {"part": "the tools"}
    if not messages or messages[0]["role"] not in SYSTEM_ROLES:
        return _first_lost(messages, rendered, (0, 0))
    system = r"\s*".join(re.escape(text.strip()) for text in parts_of(messages[0]))
    lost: dict[str, str] | None = {"part": "the system prompt", "content": text_of(messages[0])}
    # Another message may contain the same text, so all the places are tried.
    for number, match in enumerate(re.finditer(f"(?=({system}))", rendered)):
        others = _first_lost(messages[1:], rendered, match.span(1))
        if others is None:
            return None
        lost = others if number == 0 else lost
    return lost


def _first_lost(messages: Sequence[Message], rendered: str, taken: tuple[int, int]) -> dict[str, str] | None:
    """Return the first part of the messages that is not in the rendered text, in their order and outside a span."""
    position = 0
    last = max((number for number, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for number, message in enumerate(messages):
        for text in parts_of(message):
            ends = [_end(form, rendered, position, taken) for form in _forms(text, message["role"])]
            position = max(ends)
            if position < 0:
                return {"part": _part(message["role"], is_last=number == last), "content": text}
    return None


def _end(text: str, rendered: str, start: int, taken: tuple[int, int]) -> int:
    """Return the index behind the first occurrence of a text from `start` on outside a span; -1 if there is none."""
    found = rendered.find(text, start)
    while 0 <= found < taken[1] and found + len(text) > taken[0]:
        found = rendered.find(text, found + 1)
    return -1 if found < 0 else found + len(text)


def _part(role: str, *, is_last: bool) -> str:
    if role in SYSTEM_ROLES:
        return "the system prompt"
    if role == "user":
        return "the prompt" if is_last else "an earlier message of the user"
    return f"a message of role {role}"


def _forms(text: str, role: str) -> tuple[str, ...]:
    """Return the forms of a text of which a template must keep one: without thoughts, or inside JSON for tools."""
    if role == "assistant":
        return (text.rpartition(END_OF_THOUGHTS)[2].strip(),)
    if role in ("tool", "function"):
        return text.strip(), json.dumps(text, ensure_ascii=False)[1:-1].strip(), json.dumps(text)[1:-1].strip()
    return (text.strip(),)


def _names(functions: object) -> list[str]:
    """Return the names of functions, or of calls of them, in the form of OpenAI or without its outer object."""
    if not isinstance(functions, Sequence):
        return []
    inner = [each.get("function", each) for each in functions if isinstance(each, Mapping)]
    return [str(each["name"]) for each in inner if isinstance(each, Mapping) and "name" in each]


def _date(model: ModelConfig) -> dict[str, Any]:
    """Return the variables by which chat templates ask for the date; none leaves them to transformers and templates."""
    if model.date is None:
        return {}
    midnight = datetime.datetime.combine(model.date, datetime.time.min)
    # The first replaces the clock that transformers gives to templates; the second is what Llama 3 is given.
    return {"strftime_now": midnight.strftime, "date_string": midnight.strftime("%d %b %Y")}
