"""Parts of an answer: each is judged in its own language, the place of a confusion is that in the whole answer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors
from detectors import Detector, Finding, SegmentedDetector, SettingError, Stream, build_detector, find, language, spans
from detectors.markers import markers_of
from detectors.segments import part_after, part_at_start

KOREAN = build_detector("language", "ko", segments={"thoughts": "en"})
"""English thoughts, Korean answers."""
EXEMPT = build_detector("language", "ko", segments={"thoughts": "exempt", "tool_calls": "exempt"})
STRICT = build_detector("language", "ko", "confusion", {"code": "judge_text"})
CASES = [
    # detector, answer with the confusion's first character after ▸; ▸ at the end of a clean one
    (KOREAN, "<think>\nI think so.\n</think>\n\n답은 서울입니다.▸"),
    (KOREAN, "<think>\nI think ▸привет.\n</think>\n\n답은 서울입니다."),
    (KOREAN, "<think>▸생각해 보자</think>답은 서울입니다."),
    (KOREAN, "<think>\nI think.\n</think>\n\n답은 ▸Сеул입니다."),
    (KOREAN, "<think>It ends ▸внутри"),
    (KOREAN, "[THINK]So.[/THINK]▸東京です"),
    (KOREAN, "<|channel|>analysis<|message|>So it is.<|end|><|start|>assistant<|channel|>final<|message|>▸東京"),
    (KOREAN, "<|channel|>analysis<|message|>So ▸東京<|end|><|start|>assistant<|channel|>final<|message|>서울"),
    (KOREAN, "<|channel>thought\nSo it is.<channel|>서울▸"),
    (KOREAN, "◁think▷So.◁/think▷서울 ▸東京"),
    (KOREAN, "부등호 a < b, [참고] <b>굵게</b> <t ▸東京"),
    (EXEMPT, "<think>我想 привет</think>서울▸"),
    (EXEMPT, "<think>我想</think>서울 ▸我"),
    (EXEMPT, '서울 <tool_call>{"city": "Сеул"}</tool_call> 끝▸'),
    (KOREAN, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "▸Сеул"}}\n</tool_call>'),
    (KOREAN, '<tool_call>{"name": "погода", "city": "서울"}</tool_call>▸'),
    (KOREAN, '<tool_call>{"город": "서울", "city": "부산"}</tool_call> 끝▸'),
    (KOREAN, '<tool_call>{"city": "서울 ▸\\u0421\\u0435\\u0443\\u043b"}</tool_call>'),
    (KOREAN, '<tool_call>{"arguments": "{\\"city\\": \\"▸Сеул\\"}"}</tool_call>'),
    (KOREAN, "<tool_call><function=f>\n<parameter=city>\n▸Сеул\n</parameter></function></tool_call>"),
    (KOREAN, '[TOOL_CALLS]get_weather{"city": "▸Сеул"}'),
    (KOREAN, "<|python_tag|>weather(city='▸Сеул')"),
    (KOREAN, '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"city": "▸東京"}<|call|>'),
    (KOREAN, '<think>I call <tool_call>{"q": "서울"}</tool_call> and ▸그리고</think>'),
    (STRICT, "코드:\n```python\nvalue = '값'  # 설명\nprint(value)\n```\n끝▸"),
    (STRICT, "코드:\n```python\nvalue = '▸word'\n```\n"),
    (STRICT, "코드:\n```python\nvalue = 1  # ▸the comment\n```\n"),
    (STRICT, "코드:\n~~~js\nconst x = `값`; // ▸word\n~~~\n"),
    (STRICT, "코드:\n````md\n```\na\n```\n````\n끝 ▸word"),
    (STRICT, "코드:\n```unknown-language\nthe words\n```\n끝 ▸word"),
    (STRICT, "`the words` 코드 ▸word"),
]


def streamed(answer: str, detector: Detector, size: int) -> Finding | None:
    stream = Stream(detector)
    for start in range(0, len(answer), size):
        if (found := stream.feed(answer[start : start + size])) is not None:
            return found
    return stream.close()


@pytest.mark.parametrize(("detector", "marked"), CASES)
def test_each_part_is_judged_in_its_own_language(detector: Detector, marked: str) -> None:
    answer = marked.replace("▸", "")
    start = None if marked.endswith("▸") else marked.index("▸")
    found = find(answer, detector)
    assert (found and found.start) == start
    assert found is None or answer[found.start : found.end] == found.text
    for size in (1, 3, 7, len(answer)):
        growing = streamed(answer, detector, size)
        assert (growing and growing.start) == start


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("<|im_start|>assistant\n", "answer"),
        ("<|im_start|>assistant\n<think>\n", "thoughts"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "answer"),
        ("<|start|>assistant", "answer"),
        ("[THINK]", "thoughts"),
    ],
)
def test_a_prompt_decides_where_its_answer_begins(prompt: str, part: str) -> None:
    assert part_after(prompt) == part


def test_an_answer_that_closes_thoughts_which_it_has_not_opened_begins_in_them() -> None:
    answer = "I think привет</think>서울 東京"
    assert part_at_start(answer) == "thoughts" and part_at_start(f"<think>{answer}") == "answer"
    assert [found.start for found in spans(answer, detectors.for_answer(KOREAN, answer))] == [8, 25]


def test_the_counts_of_the_parts_add_up() -> None:
    answer = '<think>I think привет</think>답은 서울 東京<tool_call>{"city": "Сеул", "n": "부산"}</tool_call>'
    assert isinstance(KOREAN, SegmentedDetector)
    parts, all_of_them = KOREAN.count_parts(answer), KOREAN.count(answer)
    assert list(parts) == ["thoughts", "answer", "tool_calls"]
    assert sum(part.words for part in parts.values()) == all_of_them.words
    assert sum(part.confused_words for part in parts.values()) == all_of_them.confused_words == 3
    assert all_of_them.status == "fail"


@pytest.mark.parametrize(
    ("segments", "message"),
    [({"thinking": "en"}, "'thinking' is no part"), ({"thoughts": "klingon"}, "'klingon'")],
)
def test_a_wrong_part_is_refused_in_one_line(segments: Mapping[str, str], message: str) -> None:
    with pytest.raises(detectors.DetectorError, match=message) as error:
        build_detector("language", "ko", segments=segments)
    assert "\n" not in str(error.value)


def test_texts_in_code_need_parts_which_a_single_detector_does_not_tell_apart() -> None:
    with pytest.raises(SettingError, match="judge_text"):
        language("ko", code="judge_text")


_PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|channel|>",
    "analysis",
    "final",
    "<|message|>",
    "<|end|>",
    "[THINK]",
    "[/THINK]",
    '{"city":',
    '"서울"',
    '"Сеул"}',
    "привет",
    "서울",
    "東京",
    "the",
    "words",
    "```",
    "~~~",
    "python",
    "#",
    "'",
    '"',
    "\\u0421",
    ",",
    ":",
    "</",
    "<",
    "[",
    "<thi",
    "`",
    "``",
    "“",
    "”",
    "1",
    ".",
    ">",
    "<|channel>thought",
    "<channel|>",
]
ANSWERS = st.lists(st.sampled_from([*_PIECES, " ", "\n", "```python\n", "\n```\n"]), max_size=20).map("".join)


@given(answer=ANSWERS, detector=st.sampled_from([KOREAN, EXEMPT, STRICT]), size=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_a_growing_answer_has_the_verdict_of_the_complete_one(answer: str, detector: Detector, size: int) -> None:
    found, growing = find(answer, detector), streamed(answer, detector, size)
    assert (found and (found.start, found.kind)) == (growing and (growing.start, growing.kind))


@given(answer=ANSWERS, cut=st.floats(0, 1), detector=st.sampled_from([KOREAN, EXEMPT]))
@settings(max_examples=300, deadline=None)
def test_left_context_keeps_the_verdict(answer: str, cut: float, detector: Detector) -> None:
    found = find(answer, detector)
    k = int(cut * (len(answer) if found is None else found.start))
    behind = detector.find(answer[k:], answer[:k])
    assert (behind and behind.start) == (found and found.start - k)
    assert found is None or find(answer[: found.start], detector) is None
    stream = Stream(detector, prefix=answer[:k])
    growing = stream.feed(answer[k:]) or stream.close()
    assert (growing and growing.start) == (found and found.start - k)


EXPLAINED = [
    # what is text in an answer and in thoughts: everything behind it still belongs to the same part
    "`<think>`",
    "`</think>`",
    "``<think>`x`</think>``",
    "`the <think> tag`",
    "```\n<think>\nx\n</think>\n```\n",
    "```xml\n<tool_call>\n{}\n</tool_call>\n```\n",
    "~~~\n<think>\n~~~\n",
    "> ```\n> <think>\n> ```\n",
    "1. ```\n   <think>\n   ```\n",
    '"<think>"',
    '"</think>"',
    '"<think>…</think>"',
    "'</think>'",
    "“<think>”",
    "„<think>“",
    "‘</think>’",
    "«</think>»",
    "「<think>」",
    "『</think>』",
    "`<|channel|>`",
    '"<|end|>"',
    "`[TOOL_CALLS]`",
    "`<tool_call>`",
    "`◁/think▷`",
]


@pytest.mark.parametrize("explained", EXPLAINED)
@pytest.mark.parametrize("code", [{}, {"code": "exempt"}, {"code": "prompt"}])
def test_a_marker_in_code_or_quotation_marks_is_text(explained: str, code: Mapping[str, str]) -> None:
    detector = build_detector("language", "ko", segments={"thoughts": "en", **code})
    newline = "\n" if explained[0] in "`~>1" and "\n" in explained else ""
    answer = f"<think>\nThe tag {newline}{explained} begins them.\n</think>\n\n태그는 {newline}{explained}입니다. ▸東京"
    marked = answer.index("▸")
    answer = answer.replace("▸", "")
    assert [(found.start, found.text) for found in spans(answer, detector)] == [(marked, "東京")]
    for size in (1, 3, 7):
        growing = streamed(answer, detector, size)
        assert growing and growing.start == marked
    assert isinstance(detector, SegmentedDetector) and detector.part_at(answer, marked) == "answer"
    assert part_at_start(answer.partition("</think>\n\n")[2]) == "answer"


@pytest.mark.parametrize(
    "marked",
    [
        # a marker that counts although there is code or a quotation before it
        '<think>The answer is "Seoul"</think>서울 ▸東京',
        "<think>I call `f</think>서울 ▸東京",
        "<think>It's `x` and 5\"</think>서울 ▸東京",
        '<think>He said "yes.</think>답은 "서울" ▸東京',
        "<think>\n```python\nx = 1\n</think>\n서울 ▸東京",
        "<think>\n```\n<think>\na\n</think>\nb</think>\n서울 ▸東京",
        "<think>Use `a`, `b</think>\n서울 `c` ▸東京",
        "<think>The tag <think> begins thoughts.</think>서울 ▸東京",
        "태그 <think>는 생각을 시작합니다. ▸東京",
        "<|channel|>analysis<|message|>So ```\nx\n<|end|><|start|>assistant<|channel|>final<|message|>서울 ▸東京",
        '<tool_call>{"a": "<think>", "b": "</tool_call>", "city": "▸Сеул"}</tool_call>',
        "<think>So.</think>```\nx\n```\n서울 ▸東京",
    ],
)
def test_markers_after_untidy_code_and_quotations_count(marked: str) -> None:
    answer, start = marked.replace("▸", ""), marked.index("▸")
    for detector in (KOREAN, build_detector("language", "ko", segments={"thoughts": "en", "code": "prompt"})):
        found = find(answer, detector)
        assert (found and found.start) == start, detector
        for size in (1, 3, 7):
            growing = streamed(answer, detector, size)
            assert growing and growing.start == start


def test_a_long_line_behind_open_code_is_not_waited_for() -> None:
    answer = "<think>I call `f</think>" + "서울 " * 100 + "東京"
    stream = Stream(KOREAN)
    assert stream.feed(answer[:100]) is None
    found = stream.feed(answer[100:]) or stream.close()
    assert found and found.text == "東京"


def test_markers_are_those_that_the_tokenizer_has() -> None:
    assert isinstance(KOREAN, SegmentedDetector)
    qwen = KOREAN.with_markers(markers_of({"<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"}))
    gemma = KOREAN.with_markers(markers_of({"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>"}))
    llama = KOREAN.with_markers(markers_of({"<|eot_id|>", "<|python_tag|>", "<|eom_id|>"}))
    answers = {
        "<think>": "<think>I think</think>서울",
        "[THINK]": "[THINK]I think[/THINK]서울",
        "gemma": "<|channel>thought\nI think<channel|>서울",
    }
    parts = {
        name: {key: [segment.part for segment in detector.segments(answer)] for key, answer in answers.items()}
        for name, detector in {"qwen": qwen, "gemma": gemma, "llama": llama}.items()
    }
    both, text = ["thoughts", "answer"], ["answer"]
    assert parts == {
        "qwen": {"<think>": both, "[THINK]": text, "gemma": text},
        "gemma": {"<think>": text, "[THINK]": text, "gemma": both},
        "llama": {"<think>": both, "[THINK]": both, "gemma": both},
    }
    assert qwen.beginning_in("thoughts").markers is qwen.markers


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("<|im_start|>user\n<think> 태그는?<|im_end|>\n<|im_start|>assistant\n", "answer"),
        ("<|im_start|>user\n<think> 태그는?<|im_end|>\n<|im_start|>assistant\n<think>\n", "thoughts"),
        ("[INST]`</think>` 태그는?[/INST]", "answer"),
        ("<start_of_turn>user\n<think>?<end_of_turn>\n<start_of_turn>model\n", "answer"),
        ("<｜User｜><think>?<｜Assistant｜><think>\n", "thoughts"),
        ("<|im_start|>assistant\n<think>\nOkay, so", "thoughts"),
        ("<|start|>user<|message|><think>?<|end|><|start|>assistant<|channel|>analysis<|message|>", "thoughts"),
    ],
)
def test_what_a_user_writes_does_not_open_thoughts(prompt: str, part: str) -> None:
    assert part_after(prompt) == part
