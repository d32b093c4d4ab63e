"""A conversation is given to the policy exactly as transformers renders its messages, or it is refused by name."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.chat import check_conversations, encode_prompts, prompt_ids
from tests.actors.test_chat import CHANGES, MESSAGES, with_template
from tests.chat_templates import CHATML, GEMMA_2, GEMMA_3, LLAMA_3_1_TOOLS, MISTRAL, QWEN_3, TEMPLATES
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import PromptSet, read_prompts
from tlpo_ray.errors import ModelError, PromptError, PromptFileError
from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.records import Prompt
from tlpo_ray.flow.tokenizer import load_tokenizer

Messages = list[dict[str, Any]]
SYSTEM = {"role": "system", "content": '당신은 친절한 "도우미"입니다.\n짧게  답하세요.'}
ASKED = {"role": "user", "content": "일본의 <b>통화</b>는 무엇입니까?"}
ANSWERED = {"role": "assistant", "content": "일본의 통화는 엔입니다.\n\n- 円"}
AGAIN = {"role": "user", "content": "태국은요?"}
CHAT = [SYSTEM, ASKED, ANSWERED, AGAIN]
SHARE_GPT = {"user": "human", "assistant": "gpt", "system": "system"}


@cache
def _tokenizer(path: str, template: str) -> Any:
    tokenizer = copy.deepcopy(load_tokenizer(ModelConfig(path=path)))
    tokenizer.chat_template = template
    return tokenizer


def tokenizer_of(model: ModelConfig, template: str) -> Any:
    return _tokenizer(model.path, template)


def rendered(tokenizer: Any, messages: Messages, **options: Any) -> str:
    """Return transformers' own text."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)
    assert isinstance(text, str)
    return text


def text_of(tokenizer: Any, model: ModelConfig, content: str | Conversation) -> str:
    return str(tokenizer.decode(prompt_ids(tokenizer, model, content)))


def conversation(*messages: dict[str, Any], **others: Any) -> Conversation:
    return Conversation(messages=messages, **others)


def read(file: Path, *rows: dict[str, Any], **options: Any) -> PromptSet:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_prompts(DataConfig(prompts=str(file), language="ko", shuffle=False, max_characters=9999, **options), 0)


FORMS = {
    "messages": lambda messages: {"messages": messages},
    "messages with an answer": lambda messages: {"messages": [*messages, ANSWERED]},
    "trl prompt": lambda messages: {"prompt": messages, "completion": [ANSWERED]},
    "trl preference": lambda messages: {"prompt": messages, "chosen": [ANSWERED], "rejected": [ANSWERED]},
    "sharegpt": lambda messages: {
        "conversations": [{"from": SHARE_GPT[each["role"]], "value": each["content"]} for each in messages]
    },
    "system in a field": lambda messages: (
        {"system": messages[0]["content"], "messages": messages[1:]}
        if messages[0]["role"] == "system"
        else {"system": "", "messages": messages}
    ),
    "one part": lambda messages: {
        "messages": [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in messages]
    },
    "nulls of a table": lambda messages: {
        "prompt": None,
        "messages": [{**each, "tool_calls": None} for each in messages],
    },
    "JSON in a table": lambda messages: {"messages": json.dumps(messages)},
}
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text.strip())


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    asked = [{"role": "user", "content": draw(texts)} for _ in range(draw(st.integers(1, 4)))]
    messages: Messages = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for number, message in enumerate(asked):
        messages += [{"role": "assistant", "content": draw(texts)}] if number else []
        messages.append(message)
    return messages


@pytest.mark.parametrize("template", sorted(TEMPLATES))
@given(messages=conversations(), form=st.sampled_from(sorted(FORMS)))
@settings(deadline=None, max_examples=40)
def test_every_form_is_rendered_as_transformers_does(
    template: str, messages: Messages, form: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, TEMPLATES[template])
    (prompt,) = read(tmp_path_factory.mktemp("form") / "p.jsonl", FORMS[form](messages)).prompts
    assert prompt.text == messages[-1]["content"]
    ids = prompt_ids(tokenizer, model, prompt.content)
    assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == rendered(tokenizer, messages)


def test_a_global_system_prompt_is_for_conversations_without_one(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model), system_prompt="Be brief.")
    tokenizer = tokenizer_of(model, CHATML)
    assert text_of(tokenizer, model, conversation(*CHAT)) == rendered(tokenizer, CHAT)
    own = [{"role": "system", "content": "Be brief."}, ASKED]
    assert text_of(tokenizer, model, conversation(ASKED)) == rendered(tokenizer, own)
    developer = [{"role": "developer", "content": "짧게."}, ASKED]
    assert text_of(tokenizer, model, conversation(*developer)) == rendered(tokenizer, developer)


def test_template_arguments_reach_conversations(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model), chat_template_kwargs={"enable_thinking": False})
    tokenizer = tokenizer_of(model, QWEN_3)
    expected = rendered(tokenizer, CHAT, enable_thinking=False)
    assert expected.endswith("</think>\n\n") and text_of(tokenizer, model, conversation(*CHAT)) == expected


def test_retrieved_text_precedes_the_last_message_of_the_user(tiny_model: Path, tmp_path: Path) -> None:
    documents = [{"title": "Japan", "text": "The yen is its currency."}, "日本の通貨は円です。"]
    prompt_set = read(tmp_path / "p.jsonl", {"messages": CHAT, "documents": documents})
    (prompt,) = prompt_set.prompts
    assert prompt.text == AGAIN["content"]
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, CHATML)
    last = f"Japan\nThe yen is its currency.\n\n日本の通貨は円です。\n\n{AGAIN['content']}"
    assert text_of(tokenizer, model, prompt.content) == rendered(tokenizer, [*CHAT[:-1], {**AGAIN, "content": last}])
    assert prompt_set.note_lines() == ["1 prompt: its retrieved text, in field 'documents', is put before the question"]


CALL = {"type": "function", "function": {"name": "rate_of", "arguments": {"currency": "엔"}}}
TOOL = {"type": "function", "function": {"name": "rate_of", "description": "환율", "parameters": {"type": "object"}}}
CALLED = [
    ASKED,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": '{"엔": "9\\n"}'},
]


def test_tools_their_calls_and_their_results_are_rendered(tiny_model: Path, tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, QWEN_3)
    row = {"messages": CALLED, "tools": [TOOL]}
    for tools in ([TOOL], json.dumps([TOOL])):
        (prompt,) = read(tmp_path / "p.jsonl", row | {"tools": tools}).prompts
        assert text_of(tokenizer, model, prompt.content) == rendered(tokenizer, CALLED, tools=[TOOL])
    assert prompt.text == ASKED["content"]
    dropped = {
        "ChatML has no calls": (CHATML, "a call of a tool"),
        "no tools": (QWEN_3.replace("if tools", "if 0"), "the tools"),
    }
    for template, part in dropped.values():
        with pytest.raises(PromptError, match=f"drops or changes {part}"):
            prompt_ids(tokenizer_of(model, template), model, prompt.content)


CALL_2 = {"type": "function", "function": {"name": "rate_of", "arguments": {"currency": "원", "days": 2}}}
SHARED_CALL = '{"name": "rate_of", "arguments": {"currency": "엔"}}'
SHARED_CALL_2 = '{"name": "rate_of", "arguments": "{\\"currency\\": \\"원\\", \\"days\\": 2}"}'
RESULT = {"role": "tool", "content": '{"엔": "9\\n"}'}


def share_gpt(*turns: tuple[str, object]) -> dict[str, Any]:
    return {"conversations": [{"from": name, "value": value} for name, value in turns], "tools": json.dumps([TOOL])}


@pytest.mark.parametrize(
    ("turns", "messages"),
    [
        ([("function_call", SHARED_CALL)], [{"tool_calls": [CALL]}]),
        ([("tool_call", f" {SHARED_CALL}\n")], [{"tool_calls": [CALL]}]),
        ([("function_call", json.loads(SHARED_CALL))], [{"tool_calls": [CALL]}]),
        ([("function_call", json.dumps(CALL))], [{"tool_calls": [CALL]}]),
        ([("function_call", SHARED_CALL.replace("arguments", "parameters"))], [{"tool_calls": [CALL]}]),
        ([("function_call", f"[{SHARED_CALL}, {SHARED_CALL_2}]")], [{"tool_calls": [CALL, CALL_2]}]),
        ([("function_call", SHARED_CALL), ("function_call", SHARED_CALL_2)], [{"tool_calls": [CALL, CALL_2]}]),
        (
            [("function_call", f"<think>\n엔?\n</think>\n\n{SHARED_CALL}")],
            [{"content": "<think>\n엔?\n</think>", "tool_calls": [CALL]}],
        ),
        (
            [("gpt", "찾아볼게요."), ("function_call", SHARED_CALL)],
            [{"content": "찾아볼게요."}, {"content": None, "tool_calls": [CALL]}],
        ),
    ],
)
@pytest.mark.parametrize("rest", [[], [("gpt", "9원입니다."), ("human", "태국은요?")]])
def test_calls_of_share_gpt_are_rendered_as_transformers_renders_tool_calls(
    turns: list[tuple[str, object]],
    messages: Messages,
    rest: list[tuple[str, object]],
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, QWEN_3)
    row = share_gpt(("human", ASKED["content"]), *turns, ("observation", RESULT["content"]), *rest)
    (prompt,) = read(tmp_path / "p.jsonl", row).prompts
    expected = [ASKED, *({"role": "assistant", "content": None, **each} for each in messages), RESULT]
    expected += [{"role": "assistant", "content": "9원입니다."}, AGAIN] if rest else []
    assert text_of(tokenizer, model, prompt.content) == rendered(tokenizer, expected, tools=[TOOL])
    with pytest.raises(PromptError, match="drops or changes a call of a tool"):
        prompt_ids(tokenizer_of(model, CHATML.replace("m.content", "m.content or ''")), model, prompt.content)


def test_a_call_in_the_earlier_form_of_openai_is_not_lost(tiny_model: Path, tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, QWEN_3)
    call = {"name": "rate_of", "arguments": '{"currency": "엔"}'}
    legacy = [
        ASKED,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "rate_of", "content": RESULT["content"]},
    ]
    (prompt,) = read(tmp_path / "p.jsonl", {"messages": legacy, "tools": [TOOL]}).prompts
    assert text_of(tokenizer, model, prompt.content) == rendered(tokenizer, CALLED, tools=[TOOL])


def test_a_conversation_that_ends_with_a_call_is_asked_for_it(tmp_path: Path) -> None:
    prompt_set = read(tmp_path / "p.jsonl", share_gpt(("human", ASKED["content"]), ("function_call", SHARED_CALL)))
    (prompt,) = prompt_set.prompts
    assert prompt.conversation == conversation(ASKED, tools=(TOOL,))
    assert prompt_set.note_lines() == ["1 prompt: ends with an answer, which is left out"]


def test_results_of_tools_may_be_printed_as_json(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, LLAMA_3_1_TOOLS)
    messages = [ASKED, ANSWERED, {"role": "tool", "content": '줄\n"둘"'}]
    assert text_of(tokenizer, model, conversation(*messages)) == rendered(tokenizer, messages)


def test_several_parts_are_passed_as_they_are_or_as_lines(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    parts = [{"type": "text", "text": "첫째 문장."}, {"type": "text", "text": "둘째 문장."}]
    messages = [{"role": "system", "content": parts[::-1]}, {"role": "user", "content": parts}, ANSWERED, AGAIN]
    in_parts = GEMMA_3.replace("messages[0].content +", "messages[0].content[0].text + messages[0].content[1].text +")
    assert text_of(tokenizer_of(model, in_parts), model, conversation(*messages)) == rendered(
        tokenizer_of(model, in_parts), messages
    )
    messages = [SYSTEM, {"role": "user", "content": parts}]
    tokenizer = tokenizer_of(model, GEMMA_3)  # reads parts
    assert text_of(tokenizer, model, conversation(*messages)) == rendered(tokenizer, messages)
    tokenizer = tokenizer_of(model, CHATML)  # prints the list itself
    lines = [SYSTEM, {"role": "user", "content": "첫째 문장.\n둘째 문장."}]
    assert text_of(tokenizer, model, conversation(*messages)) == rendered(tokenizer, lines)


def test_thoughts_of_earlier_answers_may_be_left_out(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, QWEN_3)
    messages = [ASKED, {"role": "assistant", "content": "<think>\nyen?\n</think>\n\n엔입니다."}, AGAIN]
    expected = rendered(tokenizer, messages)
    assert "yen" not in expected and text_of(tokenizer, model, conversation(*messages)) == expected


# ----------------------------------------------------------------------------------------------------- refusals

EACH = [0, 1, 2, 3]
ROLE = ["the system prompt", "an earlier message of the user", "a message of role assistant", "the prompt"]


@pytest.mark.parametrize("number", EACH)
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_template_that_changes_one_message_is_refused(
    change: str, number: int, tiny_model: Path, tmp_path: Path
) -> None:
    kept = "{% if loop.index0 == " + str(number) + " %}" + CHANGES[change] + "{% else %}{{ m.content }}{% endif %}"
    model = with_template(tiny_model, tmp_path / "model", MESSAGES.format(content=kept))
    examples = read(tmp_path / "p.jsonl", {"id": "a", "messages": CHAT}).examples
    with pytest.raises(PromptFileError) as caught:
        check_conversations(model, examples, skip=False)
    assert str(caught.value).startswith(
        f"{tmp_path / 'p.jsonl'} line 1: prompt 'a' (system, user, assistant, user) cannot be asked: its chat template "
    )
    assert ROLE[number] in str(caught.value) or "its chat template says: " in str(caught.value)


def test_a_text_that_occurs_twice_must_be_kept_twice(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    tokenizer = tokenizer_of(model, "{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
    with pytest.raises(PromptError, match="its chat template drops or changes"):
        prompt_ids(tokenizer, model, conversation(AGAIN, ANSWERED, AGAIN))


def refusal(model: ModelConfig, file: Path, *rows: dict[str, Any], skip: bool = False) -> str:
    with pytest.raises(PromptFileError) as caught:
        check_conversations(model, read(file, *rows).examples, skip=skip)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_what_a_template_says_is_reported_with_the_prompt(tiny_model: Path, tmp_path: Path) -> None:
    file, good = tmp_path / "p.jsonl", {"messages": [ASKED]}
    model = with_template(tiny_model, tmp_path / "model", GEMMA_2)
    message = refusal(model, file, good, {"id": "대화-7", "messages": CHAT})
    assert message == (
        f"{file} line 2: prompt '대화-7' (system, user, assistant, user) cannot be asked: its chat template says: "
        f"System role not supported; change such prompts, or skip and count them with data.skip_bad=true"
    )
    message = refusal(model, file, {"messages": [ASKED, AGAIN]})
    assert "p.jsonl line 1: prompt 'p.jsonl:1' (user, user)" in message
    assert "Conversation roles must alternate user/assistant/user/assistant/...;" in message
    # With data.skip_bad the rollouts skip them, as long as there is another prompt.
    prompts = read(file, good, {"id": "b", "messages": CHAT}, {"prompt": "통화는?"})
    check_conversations(model, prompts.examples, skip=True)
    encoded, skipped = encode_prompts(load_tokenizer(model), model, 512, prompts.prompts)
    assert [prompt.id for prompt, _ in encoded] == ["p.jsonl:1", "p.jsonl:3"]
    assert [(one.prompt_index, one.reason) for one in skipped] == [(1, "its chat template refuses the prompt")]
    refusal(model, file, {"messages": CHAT}, skip=True)


def test_a_mistral_template_accepts_a_system_prompt_in_the_last_message(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", MISTRAL)
    check_conversations(model, read(tmp_path / "p.jsonl", {"messages": CHAT}).examples, skip=False)


def test_a_conversation_that_is_too_long_is_skipped_with_that_reason(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model), max_context=64)
    long = conversation(ASKED, {**ANSWERED, "content": "엔 " * 100}, AGAIN)
    prompts = [Prompt(index=0, id="", language="ko", text="태국은요?", conversation=long)]
    encoded, skipped = encode_prompts(load_tokenizer(model), model, 64, prompts)
    assert encoded == [] and [one.reason for one in skipped] == ["longer than the context"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "질문: {prompt}\n답변:",
            "its conversation does not fit into model.prompt_template, which is for one text",
        ),
        (None, "its conversation needs a chat template"),
    ],
)
def test_a_base_model_takes_single_messages_only(
    template: str | None, expected: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = with_template(tiny_model, tmp_path / "model", "", prompt_template=template)
    if template is None:
        (tmp_path / "model" / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(model)
    single = conversation(ASKED, documents="円")
    text = f"円\n\n{ASKED['content']}"
    assert prompt_ids(tokenizer, model, single) == prompt_ids(tokenizer, model, text)
    assert expected in refusal(model, tmp_path / "p.jsonl", {"messages": CHAT})
    with pytest.raises(PromptError, match="its conversation"):
        prompt_ids(tokenizer, model, conversation(*CHAT))
    # With data.skip_bad the others are counted under that reason, as long as there is one that can be asked.
    parts = [{"type": "text", "text": text} for text in text.split("\n\n")]
    rows: Messages = [
        {"messages": [ASKED]},
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": ASKED["content"]}, {"from": "gpt", "value": "엔입니다."}]},
        {"messages": [ASKED], "tools": [TOOL]},
        {"messages": [SYSTEM, ASKED]},
        {"messages": [{"role": "user", "content": parts}]},
    ]
    prompts = read(tmp_path / "p.jsonl", *rows)
    check_conversations(model, prompts.examples, skip=True)
    encoded, skipped = encode_prompts(tokenizer, model, 512, prompts.prompts)
    assert [prompt.index for prompt, _ in encoded] == [0, 2, 5]
    assert [list(ids) for _, ids in encoded[:2]] == [prompt_ids(tokenizer, model, ASKED["content"])] * 2
    assert [(each.prompt_index, each.reason) for each in skipped] == [(index, expected) for index in (1, 3, 4)]


def test_a_system_prompt_without_a_chat_template_is_an_error_of_the_settings(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", "", system_prompt="짧게.")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"model.system_prompt has no effect"):
        prompt_ids(load_tokenizer(model), model, conversation(ASKED))
