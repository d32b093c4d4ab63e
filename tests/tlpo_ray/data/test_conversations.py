"""Conversations in prompt files: every form is read as the same prompt, and every record has a named fate."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.conversations import NOT_TEXT, answer_text
from tlpo_ray.data.prepare import prepare_prompts
from tlpo_ray.data.prompts import UNREADABLE, PromptSet, read_prompts, usual_field
from tlpo_ray.data.requests import PrepareRequest
from tlpo_ray.data.spool import write_prompts
from tlpo_ray.errors import PromptFileError
from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.records import Prompt, decode_prompts, encode_prompts

Row = dict[str, Any]
SYSTEM = {"role": "system", "content": "짧게 답하세요."}
ASKED = {"role": "user", "content": "일본의 통화는 무엇입니까?"}
ANSWERED = {"role": "assistant", "content": "엔입니다."}
AGAIN = {"role": "user", "content": "태국의 통화는 무엇입니까?"}
CHAT = [SYSTEM, ASKED, ANSWERED, AGAIN]
IMAGE = {"type": "image_url", "image_url": {"url": "data:…"}}
TEXT_PART = {"type": "text", "text": "무엇이 보입니까?"}


def write(file: Path, rows: list[Row]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def read(file: Path, *rows: Row, **options: Any) -> PromptSet:
    return read_prompts(DataConfig(prompts=str(write(file, list(rows))), shuffle=False, **options), 0)


def only(file: Path, row: Row, **options: Any) -> Prompt:
    (prompt,) = read(file, row, **options).prompts
    return prompt


# ------------------------------------------------------------------------------------------------- what is read


def test_an_answer_at_the_end_is_left_out_and_said(tmp_path: Path) -> None:
    prompts = read(
        tmp_path / "p.jsonl",
        {"messages": [*CHAT, ANSWERED]},
        {"messages": [*CHAT, ANSWERED, ANSWERED]},
        {"messages": CHAT},
        {"prompt": [ASKED], "completion": [ANSWERED]},
    )
    expected = [Conversation(messages=tuple(CHAT))] * 3 + [Conversation(messages=(ASKED,))]
    assert [prompt.conversation for prompt in prompts.prompts] == expected
    assert [prompt.text for prompt in prompts.prompts] == [AGAIN["content"]] * 3 + [ASKED["content"]]
    assert prompts.note_lines() == [
        "4 prompts: states no language, identified as ko",
        "2 prompts: ends with an answer, which is left out",
    ]


def test_the_usual_fields_are_found(tmp_path: Path) -> None:
    for row, name in (
        ({"messages": CHAT}, "prompt"),
        ({"messages": CHAT, "text": "<|im_start|>…"}, "prompt"),
        ({"conversations": [{"from": "human", "value": "?"}]}, "prompt"),
        ({"conversation": CHAT, "question": "?"}, "question"),
        ({"prompt": "?", "messages": CHAT}, "prompt"),
    ):
        assert usual_field(DataConfig(prompts=str(write(tmp_path / "p.jsonl", [row])))) == name
    # A file of the no_robots kind states its first question beside the conversation: the field that is named counts.
    both = {"prompt": ASKED["content"], "messages": CHAT}
    assert only(tmp_path / "p.jsonl", both).conversation is None
    assert only(tmp_path / "p.jsonl", both, prompt_field="messages").conversation == Conversation(messages=tuple(CHAT))
    implicit = {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED]}
    with pytest.raises(PromptFileError, match=r"set data\.prompt_field=chosen"):
        read(tmp_path / "p.jsonl", implicit)
    assert only(tmp_path / "p.jsonl", implicit, prompt_field="chosen").conversation == Conversation(messages=(ASKED,))


def test_speakers_of_public_datasets_have_a_role(tmp_path: Path) -> None:
    turns = [
        ("System", "짧게."),
        ("human", "환율은?"),
        ("bing", "찾습니다."),
        ("observation", "9"),
        ("User", "고마워요."),
    ]
    row = {"conversations": [{"from": name, "value": text, "weight": None} for name, text in turns]}
    conversation = only(tmp_path / "p.jsonl", row).conversation
    assert conversation is not None
    assert [message["role"] for message in conversation.messages] == ["system", "user", "assistant", "tool", "user"]
    assert all(set(message) == {"role", "content"} for message in conversation.messages)


def test_a_table_pads_with_nulls_and_has_times(tmp_path: Path) -> None:
    import datetime

    messages = [
        {**ASKED, "timestamp": None, "name": "영희"},
        {**ANSWERED, "timestamp": datetime.datetime(2024, 1, 1), "name": None},
    ]
    pq.write_table(pa.Table.from_pylist([{"conversation": messages}]), tmp_path / "p.parquet")
    (prompt,) = read_prompts(DataConfig(prompts=str(tmp_path / "p.parquet")), 0).prompts
    assert prompt.conversation == Conversation(messages=({**ASKED, "name": "영희"},))


def test_a_system_prompt_of_a_record(tmp_path: Path) -> None:
    own = Conversation(messages=(SYSTEM, ASKED))
    file = tmp_path / "p.jsonl"
    text = SYSTEM["content"]
    assert only(file, {"messages": [ASKED], "system": text}).conversation == own
    assert only(file, {"messages": [ASKED], "system_prompt": text}).conversation == own
    assert only(file, {"messages": [SYSTEM, ASKED], "system": text}).conversation == own
    assert only(file, {"messages": [ASKED], "role_play": text}, system_field="role_play").conversation == own
    # Beside a text, a field counts if it is named: earlier runs have not read it.
    row = {"prompt": ASKED["content"], "system": text, "context": "円"}
    assert only(file, row).conversation is None
    assert only(file, row, system_field="system").conversation == own
    assert only(file, row | {"system": None}, system_field="system").conversation is None
    assert only(file, row, context_field="context").conversation == Conversation(messages=(ASKED,), documents="円")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("documents", [{"text": "가"}, {"title": "제목", "contents": "나"}, "다"], "가\n\n제목\n나\n\n다"),
        ("context", "가", "가"),
        ("documents", [], ""),
        ("context", None, ""),
    ],
)
def test_retrieved_text(name: str, value: object, expected: str, tmp_path: Path) -> None:
    prompt = only(tmp_path / "p.jsonl", {"messages": CHAT, name: value})
    assert prompt.text == AGAIN["content"] and prompt.conversation is not None
    assert prompt.conversation.documents == expected
    last = f"{expected}\n\n{AGAIN['content']}" if expected else AGAIN["content"]
    assert prompt.conversation.turns == [*CHAT[:-1], {**AGAIN, "content": last}]


def test_the_language_is_that_of_the_question(tmp_path: Path) -> None:
    documents = "The yen is the official currency of Japan. It is the third most traded currency in the world. " * 5
    file = tmp_path / "p.jsonl"
    assert only(file, {"messages": CHAT, "documents": documents}).language == "ko"
    english = {"role": "user", "content": "What is the currency of Thailand, and who prints it?"}
    assert only(file, {"messages": [*CHAT, ANSWERED, english]}).language == "en"
    assert only(file, {"messages": CHAT, "language": "ja"}).language == "ja"
    assert only(file, {"messages": CHAT}, language="ja").language == "ja"
    assert only(file, {"prompt": AGAIN["content"]}).language == "ko"


# ------------------------------------------------------------------------------------------------- what is refused

ASKED_SHARE_GPT = {"from": "human", "value": "환율은?"}
BAD_CALL = "a call of a tool is not a JSON object with name and arguments"
BAD: list[tuple[Row, str, str]] = [
    ({"messages": []}, "field 'messages' is empty", UNREADABLE),
    ({"messages": [ANSWERED]}, "field 'messages' has no message of the user before its answer", UNREADABLE),
    ({"messages": [SYSTEM]}, "field 'messages' has no message of the user", UNREADABLE),
    (
        {"messages": [{"role": "user", "content": " "}]},
        "field 'messages': the user's last message is empty",
        UNREADABLE,
    ),
    ({"messages": [{"role": "user"}]}, "a message has no text (message 1 of field 'messages', from user)", UNREADABLE),
    ({"messages": ["안녕?"]}, "a message is not an object with role and content (message 1 of", UNREADABLE),
    (
        {"messages": [ASKED, {"role": "narrator", "content": "…"}]},
        "a message has an unknown role (message 2",
        UNREADABLE,
    ),
    (
        {"messages": [{"content": "…"}]},
        "a message has an unknown role (message 1 of field 'messages': None",
        UNREADABLE,
    ),
    ({"messages": [{"role": "user", "content": 3}]}, "a content is neither a text nor a list of parts", UNREADABLE),
    ({"messages": CHAT, "system": "다른 말"}, "has two system prompts, in field 'system' and in its", UNREADABLE),
    ({"messages": CHAT, "system": 3}, "field 'system' holds int, not the text of a system prompt", UNREADABLE),
    ({"messages": CHAT, "documents": [{"url": "…"}]}, "field 'documents' holds something else than texts", UNREADABLE),
    ({"messages": CHAT, "tools": "[…"}, "field 'tools' is not JSON", UNREADABLE),
    ({"messages": CHAT, "tools": ["rate_of"]}, "field 'tools' is not a list of functions", UNREADABLE),
    ({"messages": {"role": "user"}}, "no field 'prompt'; found messages", UNREADABLE),
    *(
        ({"conversations": [ASKED_SHARE_GPT, {"from": "function_call", "value": value}]}, problem, UNREADABLE)
        for value, problem in [
            ("rate_of(엔)", f"{BAD_CALL} (message 2 of field 'conversations': found text that is not JSON)"),
            ("[]", f"{BAD_CALL} (message 2 of field 'conversations': it is empty)"),
            ('{"arguments": {}}', f"{BAD_CALL} (message 2 of field 'conversations': found dict)"),
            (
                '{"name": "f", "arguments": "엔"}',
                f"{BAD_CALL} (message 2 of field 'conversations': the arguments of 'f'",
            ),
            (None, f"{BAD_CALL} (message 2 of field 'conversations': found NoneType)"),
        ]
    ),
    (
        {"messages": [ASKED, {"role": "assistant", "content": None, "function_call": {"arguments": "{}"}}]},
        f"{BAD_CALL} (message 2",
        UNREADABLE,
    ),
    (
        {"messages": [{"role": "user", "content": "\ud83d"}], "language": "ko"},
        "a text holds half a surrogate pair",
        UNREADABLE,
    ),
    (
        {"messages": [{"role": "user", "content": [TEXT_PART, IMAGE]}]},
        "has a part that is not text (message 1 of field 'messages': a part of type 'image_url'; only text is",
        NOT_TEXT,
    ),
    ({"messages": CHAT, "images": ["a.png"]}, "has a part that is not text: field 'images' beside", NOT_TEXT),
    ({"image": "a.png", "conversations": [{"from": "human", "value": "?"}]}, "has a part that is not text", NOT_TEXT),
    (
        {"messages": [{"role": "user", "content": "?!"}]},
        "no language in field 'language'; set data.language",
        UNREADABLE,
    ),
]


@pytest.mark.parametrize(("row", "problem", "reason"), BAD, ids=[problem[:30] for _, problem, _ in BAD])
def test_a_malformed_conversation_is_named_or_counted(row: Row, problem: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in ({"messages": CHAT}, row)))
    with pytest.raises(PromptFileError) as caught:
        read_prompts(DataConfig(prompts=str(file)), 0)
    assert f"{file} line 2: {problem}" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    counted = read_prompts(DataConfig(prompts=str(file), skip_bad=True), 0)
    assert (len(counted.prompts), counted.skipped, counted.total) == (1, {reason: 1}, 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["role", "content", "from", "value", "type", "text", "tool_calls", "function_call", "name", "arguments"]
        ), inner, max_size=3
    ),
    max_leaves=12,
)  # fmt: skip
roles = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", "function_call", "observation"])
turns = st.lists(st.fixed_dictionaries({"role": roles, "content": st.text(max_size=8) | json_values}), max_size=5)
fields = st.sampled_from(["messages", "conversations", "prompt", "system", "documents", "context", "tools", "images"])


@given(rows=st.lists(st.dictionaries(fields, json_values | turns, max_size=4), max_size=8))
@settings(deadline=None)
def test_every_record_is_accounted_for(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("rows") / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [{"messages": CHAT}, *rows]))
    prompts = read_prompts(DataConfig(prompts=str(file), language="ko", skip_bad=True, max_characters=6), 0)
    assert len(prompts.prompts) + sum(prompts.skipped.values()) == prompts.total == len(rows) + 1
    assert set(prompts.skipped) <= {UNREADABLE, NOT_TEXT, "longer than 6 characters"}
    for prompt in prompts.prompts:
        assert prompt.text.strip()
        if prompt.conversation is not None:
            assert prompt.conversation.messages[-1]["role"] != "assistant"
            assert prompt.conversation.question == prompt.text


# ------------------------------------------------------------------------------------------------- where prompts go


def test_conversations_survive_spool_lease_and_file(tmp_path: Path) -> None:
    row = {
        "id": "대화", "language": "ko", "messages": CHAT, "documents": ["円\u2028엔"],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }  # fmt: skip
    prompts = list(read(tmp_path / "p.jsonl", row, {"prompt": "바트는?", "language": "ko"}).prompts)
    assert list(write_prompts(tmp_path / "spool.arrow", iter(prompts))) == prompts
    assert decode_prompts(encode_prompts(prompts)) == prompts
    assert [Prompt.from_row(json.loads(json.dumps(prompt.to_row())), prompt.index) for prompt in prompts] == prompts
    assert list(read(tmp_path / "again.jsonl", *(prompt.to_row() for prompt in prompts)).prompts) == prompts
    assert len({prompt.key for prompt in prompts}) == 2


def test_leases_of_an_earlier_release_are_read() -> None:
    assert decode_prompts(b'[[3, "a", "ko", "\\ud1b5\\ud654\\ub294?"]]') == [
        Prompt(index=3, id="a", language="ko", text="통화는?")
    ]


def test_answers_in_fields() -> None:
    assert answer_text("네") == answer_text([ASKED, {"role": "assistant", "content": "네"}]) == "네"
    assert answer_text([ASKED]) is answer_text(None) is answer_text(" ") is answer_text([]) is answer_text([3]) is None


# ------------------------------------------------------------------------------------------------- tlpo data prepare


def prepared(tmp_path: Path, *rows: Row, **options: Any) -> tuple[list[Row], dict[str, int], dict[str, int]]:
    request = PrepareRequest(
        source=str(write(tmp_path / "source.jsonl", list(rows))),
        language="ko",
        output=tmp_path / "out.jsonl",
        **options,
    )
    filtered = prepare_prompts(request).filtered
    assert filtered.read == len(rows) == len(filtered.prompts) + sum(filtered.dropped.values())
    report = json.loads((tmp_path / "out.report.json").read_text("utf-8"))
    assert report["notes"] == filtered.notes
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").split("\n") if line]
    return written, dict(filtered.dropped), dict(filtered.notes)


def chat(*contents: str, **others: Any) -> Row:
    names = ["system", "user", "assistant", "user"] if len(contents) == 4 else ["user", "assistant", "user"]
    return {"messages": [{"role": r, "content": c} for r, c in zip(names, contents, strict=False)], **others}


def test_prepare_says_what_it_has_kept_and_why_not_the_others(tmp_path: Path) -> None:
    kept = chat("건강을 지키는 방법은?", "잘 자는 것입니다.", "그 밖에는 없습니까?", documents="睡眠 is healthy.")
    written, dropped, notes = prepared(
        tmp_path,
        kept,
        chat("건강을  지키는 방법은?", "잘 자는 것입니다.", "그 밖에는 없습니까?", documents="睡眠 is healthy."),
        chat("건강을 지키는 방법은?", "잘 먹는 것입니다.", "그 밖에는 없습니까?"),  # another answer before
        chat("영어로 대답해 주세요.", "Okay.", "그 밖에는 없습니까?"),  # an earlier message counts
        chat("항상 한국어로 답하세요.", "건강이란 무엇입니까?", "네.", "더 자세히 말해 주세요."),  # the own language
        chat("항상 영어로 답하세요.", "건강이란 무엇입니까?", "네.", "더 자세히 말해 주세요."),
        chat("당신은 파이썬 도우미입니다.", "건강이란 무엇입니까?", "네.", "더 자세히 말해 주세요."),
        chat("слово는 무슨 뜻입니까?", "말입니다.", "그 밖에는 없습니까?"),
        chat("слово의 뜻을 아십니까? 답은 слово입니다.", "слово", "길" * 501),
        {"messages": [{"role": "user", "content": "日本の通貨は何ですか?"}]},
        {"messages": [{"role": "user", "content": "?!"}]},
        {"messages": [ASKED], "language": "ja"},
        {"prompt": "건강은 왜 중요합니까?"},
    )  # fmt: skip
    assert dropped == {
        "is a duplicate": 1, "names a language": 2, "is about code or translation": 1, "is in another language": 2,
        "holds characters of another language": 1, "longer than 500 characters": 1,
    }  # fmt: skip
    assert written[0] == {"id": "source.jsonl:1", "language": "ko", **kept}
    assert [row["id"].partition(":")[2] for row in written] == ["1", "3", "5", "11", "13"]
    assert "prompt" in written[-1] and "messages" not in written[-1]
    assert notes == {
        "states no language, identified as ko": 4,
        "states no language, and none is certain: taken as ko": 1,
        "its retrieved text, in field 'documents', is put before the question": 1,
    }
    again = read_prompts(DataConfig(prompts=str(tmp_path / "out.jsonl"), shuffle=False), 0)
    assert [prompt.to_row() for prompt in again.prompts] == written


def test_examples_show_the_text_that_a_rule_has_looked_at(tmp_path: Path) -> None:
    row = chat("항상 영어로 답하세요.", "건강이란 무엇입니까?", "네.", "더 자세히 말해 주세요.")
    write(tmp_path / "p.jsonl", [row, {"prompt": "건강은 왜 중요합니까?"}])
    request = PrepareRequest(source=str(tmp_path / "p.jsonl"), language="ko", output=tmp_path / "out.jsonl")
    ((example,),) = prepare_prompts(request).filtered.examples.values()
    assert (example.text, example.words) == ("항상 영어로 답하세요.", ["영어"])


def test_answers_are_written_for_sft(tmp_path: Path) -> None:
    written, dropped, _ = prepared(
        tmp_path,
        {"messages": [ASKED, ANSWERED]},
        {"prompt": [AGAIN], "output": [{"role": "assistant", "content": "바트입니다."}]},
        {"messages": CHAT},
        with_answers=True,
    )
    assert [row["answer"] for row in written] == ["엔입니다.", "바트입니다."] and dropped == {"has no answer": 1}


def test_questions_about_retrieved_text_may_be_kept(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "다음 글을 요약하세요.\n日本の通貨は円です。"}]}
    written, dropped, _ = prepared(tmp_path, row, {"prompt": "통화란?"}, keep_foreign=True)
    assert (len(written), dropped) == (2, {})
    assert Counter(row.keys() >= {"messages"} for row in written) == {True: 1, False: 1}
