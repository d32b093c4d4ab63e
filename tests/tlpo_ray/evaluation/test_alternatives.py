"""Decoding methods behind `tlpo evaluate --decoding` and `tlpo alternatives`: same prompts, rates, costs, advice."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import detectors
from detectors import Rates
from tlpo_ray.commands.alternatives import alternatives_table
from tlpo_ray.config.decoding import METHODS, DecodingConfig
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.alternatives import (
    AlternativesRequest,
    AlternativesResult,
    MethodResult,
    compare_alternatives,
)
from tlpo_ray.evaluation.evaluate import EvaluateRequest, evaluate
from tlpo_ray.evaluation.judge import Judgement
from tlpo_ray.evaluation.sampling import Cost, instructed
from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import ProgressListener


class Notes(ProgressListener):
    """Keeps notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"일본의 통화 {n}는?"}) + "\n" for n in range(6)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def compared(
    tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AlternativesResult, Path]:
    request = AlternativesRequest(
        model=str(tiny_model), prompts=str(prompts), language="ko", engine="transformers", max_new_tokens=24, wanted=3,
        temperature=1.0,
    )  # fmt: skip
    output = tmp_path_factory.mktemp("alternatives") / "out"
    return compare_alternatives(request, output=output), output


def test_every_method_answers_the_same_prompts(compared: tuple[AlternativesResult, Path]) -> None:
    result, output = compared
    assert [str(each.method) for each in result.methods] == list(METHODS)
    assert {each.judgement.rates.answers for each in result.methods} == {6}
    rows = [json.loads(line) for line in (output / "answers.jsonl").read_text(encoding="utf-8").split("\n") if line]
    asked = {method: [row["prompt"] for row in rows if row["decoding"] == method] for method in METHODS}
    assert all(len(each) == 9 and each == asked["plain"] for each in asked.values())
    saved = json.loads((output / "result.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in saved["methods"]] == list(METHODS)
    assert saved["advice"] == result.advice


def test_the_table_fits_into_80_columns(compared: tuple[AlternativesResult, Path]) -> None:
    result, _ = compared
    long = tuple(replace(each, times_plain=12.34, cost=replace(each.cost, seconds=9999.0)) for each in result.methods)
    screen = Console(width=80, file=io.StringIO())
    screen.print(alternatives_table(replace(result, methods=long)))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text and "per 1,000" in text and all(method in text for method in METHODS)


def test_masked_answers_have_no_foreign_letter_and_retried_ones_no_confusion_or_all_their_retries(
    compared: tuple[AlternativesResult, Path],
) -> None:
    result, output = compared
    rows = [json.loads(line) for line in (output / "answers.jsonl").read_text(encoding="utf-8").split("\n") if line]
    foreign = detectors.script_characters("ko").foreign
    assert not any(foreign.search(row["answer"]) for row in rows if row["decoding"] == "mask")
    assert any(foreign.search(row["answer"]) for row in rows if row["decoding"] == "plain")
    by_method = {str(each.method): each for each in result.methods}
    plain, retried = by_method["plain"], by_method["retry"]
    assert plain.cost.interventions == 0 and plain.times_plain == 1
    assert plain.cost.tokens_sampled == plain.cost.tokens
    assert retried.cost.tokens_sampled > retried.cost.tokens > 0
    assert retried.cost.interventions > 0
    assert retried.judgement.rates.failed < plain.judgement.rates.failed


def test_a_used_folder_and_a_wrong_method_are_refused_before_the_model_is_loaded(
    compared: tuple[AlternativesResult, Path],
) -> None:
    result, output = compared
    with pytest.raises(UserError, match="already holds"):
        compare_alternatives(replace(result.request, model="nowhere"), output=output)
    with pytest.raises(UserError, match="expected one of plain, greedy"):
        compare_alternatives(replace(result.request, model="nowhere", methods=("musk",)))


@pytest.mark.parametrize("method", ["mask", "retry", "prompt"])
def test_evaluate_decodes_by_a_method_and_saves_what_it_cost(method: str, tiny_model: Path, prompts: Path) -> None:
    request = EvaluateRequest(
        model=str(tiny_model), prompts=str(prompts), languages=("ko",), engine="transformers", max_new_tokens=12,
        temperature=1.0, decoding=method,
    )  # fmt: skip
    saved = evaluate(request).to_json()
    assert saved["decoding"] == method
    assert isinstance(saved["tokens_sampled"], int) and isinstance(saved["tokens"], int)
    assert saved["tokens_sampled"] >= saved["tokens"] > 0


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("musk", "expected one of plain, greedy, prompt, mask, gate, boost, retry"),
        ("gate:top_k=many", "top_k"),
        ("gate:k=2", "'k=2' is not a setting of gate; expected e.g. gate:top_k=10"),
        ("mask:top_k=5", "'top_k=5' is not a setting of mask; expected mask alone"),
        ("gate:alpha=3", "'alpha=3' is not a setting of gate"),
        ("plain:alpha=3", "'alpha=3' is not a setting of plain"),
        ("mask:", "'' is not a setting of mask"),
        ("boost:alpha=1e39", "alpha: input should be less than or equal to 1000"),
        ("boost:alpha=inf", "alpha: input should be a finite number"),
        ("boost:alpha=0", "alpha"),
        ("retry:max_retries", "max_retries: "),
    ],
)
def test_a_wrong_decoding_method_is_refused_in_one_line(given: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        DecodingConfig.parse(given)
    assert "\n" not in str(caught.value)


def test_decoding_does_not_go_with_saved_answers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="decoding does not go with answers"):
        evaluate(EvaluateRequest(answers=tmp_path, decoding="mask"))


def test_an_instruction_goes_behind_the_users_last_message() -> None:
    prompt = instructed(Prompt(index=0, id="p", language="ko", text="수도는?"))
    assert prompt.text.startswith("수도는?\n\n") and "Korean" in prompt.text
    messages = (
        {"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "tool", "content": "d"},
    )  # fmt: skip
    conversation = instructed(
        Prompt(index=0, id="p", language="zh-Hant", text="c", conversation=Conversation(messages=messages))
    ).conversation
    assert conversation is not None
    contents = [message["content"] for message in conversation.messages]
    assert contents[:3] + contents[4:] == ["s", "a", "b", "d"]
    assert contents[3].startswith("c\n\n")


def advised(*figures: tuple[str, int, float, float | None], silent: int = 0) -> str:
    """Return the advice on (method, passes of 200, times plain, wanted); `silent` answers of the last have no word."""
    methods = [
        MethodResult(
            method=DecodingConfig.parse(method),
            judgement=Judgement(
                language="ko", task="all", right=None,
                rates=detectors.rates_of([detectors.language("ko").count("엔")] * (passes - without)
                                         + [detectors.language("ko").count("—")] * without
                                         + [detectors.language("ko").count("єна")] * (200 - passes)),
            ),
            cost=Cost(seconds=times, tokens=1000, tokens_sampled=1000, interventions=0),
            wanted=wanted, times_plain=times,
        )
        for method, passes, times, wanted in figures
        for without in [silent if method == figures[-1][0] else 0]
    ]  # fmt: skip
    assert isinstance(methods[0].judgement.rates, Rates)
    request = AlternativesRequest(model="m", prompts="p", language="ko")
    return AlternativesResult(request=request, methods=tuple(methods)).advice


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([("plain", 199, 1.0, 0.5), ("mask", 200, 1.0, 0.5)], "little to repair"),
        (
            [("plain", 150, 1.0, 0.5), ("mask", 199, 1.05, 0.5), ("retry", 200, 2.0, 0.5)],
            "may not need to train: with mask",
        ),
        (
            [("plain", 150, 1.0, 0.5), ("mask", 199, 1.05, 0.1), ("retry", 200, 2.0, 0.5)],
            "With retry, 100.0% of the answers pass",
        ),
        ([("plain", 150, 1.0, 0.5), ("mask", 199, 1.05, 0.1)], "loses foreign text that is wanted. Train"),
        ([("plain", 150, 1.0, None), ("greedy", 160, 0.9, None)], "the best is greedy with 80.0%"),
    ],
)
def test_the_advice_follows_the_figures(figures: list[tuple[str, int, float, float | None]], expected: str) -> None:
    assert expected in advised(*figures)


@pytest.mark.parametrize(
    ("figures", "silent", "expected"),
    [
        ([("plain", 150, 1.0, None)], 0, "75.0% of the answers pass without any change; no other method was compared"),
        (
            [("plain", 150, 1.0, None), ("greedy", 160, 1.0, None), ("mask", 200, 1.0, None)],
            100,
            "100.0% of the answers that have a word of the language; 100 of 200 have none. Train.",
        ),
        ([("plain", 150, 1.0, None), ("greedy", 160, 1.0, None), ("mask", 200, 1.0, None)], 200, "best is greedy"),
        (
            [("plain", 150, 1.0, None), ("boost:alpha=4", 199, 1.0, None)],
            0,
            "with boost:alpha=4.0, 99.5% of the answers pass",
        ),
    ],
)
def test_a_method_that_silences_the_model_is_not_advised(
    figures: list[tuple[str, int, float, float | None]], silent: int, expected: str
) -> None:
    advice = advised(*figures, silent=silent)
    assert expected in advice
    assert "may not need to train" not in advice or not silent


def test_settings_tell_one_method_from_another_and_answers_without_words_are_shown(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    request = AlternativesRequest(
        model=str(tiny_model), prompts=str(prompts), language="ko", engine="transformers", max_new_tokens=4, wanted=0,
        methods=("boost:alpha=1", "boost", "boost:alpha=8"),
    )  # fmt: skip
    result = compare_alternatives(request, output=tmp_path / "out")
    assert [str(each.method) for each in result.methods] == ["plain", "boost:alpha=1.0", "boost"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text("utf-8").splitlines()]
    assert {row["decoding"] for row in rows} == {"plain", "boost:alpha=1.0", "boost"}
    again = evaluate(EvaluateRequest(answers=tmp_path / "out")).judgements
    assert {one.task: one.rates for one in again} == {
        f"prompts · {each.method}": each.judgement.rates for each in result.methods
    }


def test_a_language_without_prompts_for_foreign_text_is_compared_without_them_and_says_so(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "hi.jsonl").write_text(json.dumps({"prompt": "भारत की मुद्रा क्या है?"}) + "\n", encoding="utf-8")
    notes = Notes()
    for language, wanted, shares in (("hi", 2, [None]), ("hi", 0, [None]), ("zh-Hant", 0, [None]), ("zh-Hant", 2, [0])):
        request = AlternativesRequest(
            model=str(tiny_model), prompts=str(tmp_path / "hi.jsonl"), language=language, engine="transformers",
            max_new_tokens=2, wanted=wanted, methods=("plain",),
        )  # fmt: skip
        assert [each.wanted for each in compare_alternatives(request, notes).methods] == shares
    assert notes.lines == ["the suite wanted has no prompts in hi: no foreign text is asked for"]


def test_prompts_that_leave_no_room_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "일본의 통화는?"}, {"prompt": "가나다라 " * 400}]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    notes = Notes()
    request = AlternativesRequest(
        model=str(tiny_model), prompts=str(tmp_path / "long.jsonl"), language="ko", engine="transformers",
        max_new_tokens=2, wanted=0, methods=("plain",),
    )  # fmt: skip
    assert compare_alternatives(request, notes).methods[0].judgement.rates.answers == 1
    assert notes.lines == ["1 of 2 prompts left out: longer than the context"]
