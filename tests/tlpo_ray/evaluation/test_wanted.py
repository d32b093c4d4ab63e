"""The suite of prompts that ask for foreign text: its prompts, what is right, and that no pass rates are shown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import detectors
from detectors.language_table import LANGUAGES as TABLE
from detectors.scripts import script_of
from tests.tiny import make_tiny_model
from tlpo_ray.commands.evaluate import Request, _rates_table, _remarks, evaluate_command
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.evaluate import EvaluateRequest, EvaluationResult, evaluate
from tlpo_ray.evaluation.judge import ItemAnswer, Judge
from tlpo_ray.evaluation.suites import SUITES, Item, select_items
from tlpo_ray.evaluation.suites.wanted import KINDS, LANGUAGES, correct, wanted_items
from tlpo_ray.quickstart.world import ENGLISH, WRONG_LANGUAGES
from tlpo_ray.quickstart.world import LANGUAGES as TOY_LANGUAGES


def foreign_of(item: Item) -> str:
    return item.id.split("-")[1]


def test_every_pair_of_the_languages_has_prompts_and_most_have_every_kind() -> None:
    items = wanted_items(LANGUAGES)
    assert len({item.id for item in items}) == len(items)
    pairs = Counter((item.language, foreign_of(item)) for item in items)
    assert set(pairs) == {(own, other) for own in LANGUAGES for other in LANGUAGES if own != other}
    assert min(pairs.values()) >= 15
    kinds = {(item.language, foreign_of(item), item.task) for item in items}
    for own, other in pairs:
        for kind in set(KINDS) - {"own-script"}:
            assert (own, other, kind) in kinds, f"{own} never asks for {other} with {kind}"
        shared = TABLE[own].scripts[0] == TABLE[other].scripts[0] or {own, other} == {"ja", "zh"}
        assert ((own, other, "own-script") in kinds) != shared


def test_a_prompt_gives_away_what_it_asks_for_only_if_it_asks_to_quote_it() -> None:
    for item in wanted_items(LANGUAGES):
        assert correct(item.prompt, item.reference, item.language) == (item.task == "quote"), item


def test_expected_text_is_in_the_script_of_the_language_that_is_asked_for() -> None:
    for item in wanted_items(LANGUAGES):
        allowed = {*TABLE[foreign_of(item)].scripts, "Common"}
        assert {script_of(char) for char in item.reference} <= allowed, item


def test_prompts_are_in_their_language_but_for_what_they_quote() -> None:
    for item in wanted_items([code for code in LANGUAGES if not TABLE[code].is_latin]):
        if item.task != "quote":
            assert detectors.find(item.prompt, detectors.language(item.language)) is None, item


@pytest.mark.parametrize("limit", [4, 12, 24, 48])
@pytest.mark.parametrize("language", ["ko", "de", "th"])
def test_a_limit_leaves_kinds_and_languages_in_balance(language: str, limit: int) -> None:
    items = wanted_items([language], limit=limit)
    assert len(items) == limit
    foreign = Counter(map(foreign_of, items))
    assert len(foreign) == min(limit, len(LANGUAGES) - 1)
    assert max(foreign.values()) - min(foreign.values()) <= 1 - (limit % 12 == 0)
    assert limit < 12 or {item.task for item in items} == set(KINDS)
    if language == "ko":  # which shares its script with no other of the languages
        kinds = Counter(item.task for item in items)
        assert set(kinds) == set(KINDS) and max(kinds.values()) - min(kinds.values()) <= 1


def test_a_limit_takes_the_beginning_and_the_seed_decides_the_order() -> None:
    every = wanted_items(["ja"], seed=3)
    assert wanted_items(["ja"], seed=3, limit=20) == every[:20] == wanted_items(["ja"], seed=3)[:20]
    other = wanted_items(["ja"], seed=4)
    assert other[:20] != every[:20] and sorted(item.id for item in other) == sorted(item.id for item in every)
    assert wanted_items(["ko", "ja"], seed=3, limit=20)[20:] == every[:20], "other languages make no difference"


def test_items_for_the_languages_of_the_toy_world() -> None:
    items = wanted_items(TOY_LANGUAGES, (*WRONG_LANGUAGES, ENGLISH), limit=12)
    assert Counter(item.language for item in items) == dict.fromkeys(TOY_LANGUAGES, 12)
    assert Counter((item.task, foreign_of(item)) for item in items) == {
        (kind, foreign): 4 for kind in KINDS for foreign in ("uk", "th", "en")
    }


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("일본은 태국어로 ญี่ปุ่น입니다.", "ญี่ปุ่น", True),
        ("일본입니다.", "ญี่ปุ่น", False),
        ("print(1)  # ＪＡＰＡＮ", "Japan", True),
        ("Das heißt ÄGYPTEN.", "Ägypten", True),
        ("A\u0308gypten", "Ägypten", True),
        ("„Bring morgen bitte\neinen  warmen Mantel mit“", "Bring morgen bitte einen warmen Mantel mit", True),
        ("„Bring morgen einen warmen Mantel mit“", "Bring morgen bitte einen warmen Mantel mit", False),
        ("", "Japan", False),
    ],
)
def test_an_answer_is_right_if_the_expected_text_is_in_it(answer: str, reference: str, right: bool) -> None:
    assert correct(answer, reference, "ko") == right


@pytest.mark.parametrize(
    ("source", "languages", "expected"),
    [
        ("prompts.jsonl", ("ko",), "suite wanted makes its prompts itself: leave --source prompts.jsonl out"),
        (None, ("ko", "vi"), "suite wanted does not have language 'vi'; it has ar, de,"),
    ],
)
def test_what_the_suite_does_not_have_is_refused(source: str | None, languages: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        select_items(SUITES["wanted"], source, languages, limit=None, seed=0)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_both_writings_of_chinese_get_the_chinese_prompts() -> None:
    (item,) = select_items(SUITES["wanted"], None, ("zh-Hant",), limit=1, seed=0).items
    assert item.language == "zh-Hant" and item.id.startswith("zh-")


def answers(*texts: str, suite: str = "wanted", task: str = "translate") -> list[ItemAnswer]:
    item = Item(
        suite=suite, task=task, source="cldr", id="ko-th-translate-JP", language="ko", prompt="…", reference="ญี่ปุ่น"
    )
    return [ItemAnswer(item=item, sample=number, answer=text) for number, text in enumerate(texts)]


def result_of(folder: Path, given: list[ItemAnswer]) -> EvaluationResult:
    file = folder / "answers.jsonl"
    file.write_text("".join(json.dumps(answer.to_json()) + "\n" for answer in given), encoding="utf-8")
    return evaluate(EvaluateRequest(answers=file))


def terminal(result: EvaluationResult) -> str:
    output = StringIO()
    Console(file=output, width=160).print(_rates_table(result), _remarks(result))
    return output.getvalue()


def test_saved_answers_have_a_share_of_wanted_text_and_no_pass_rates(tmp_path: Path) -> None:
    given = answers("ญี่ปุ่น", "태국어로 ญี่ปุ่น입니다.", "일본입니다.", "японська", task="translate") + answers(
        "ญี่ปุ่น", task="quote"
    )
    result = result_of(tmp_path, given)
    written: dict[str, Any] = result.to_json()
    assert written["wanted"] == pytest.approx(3 / 5) and written["answers"] == 5
    assert written["wanted_interval_95"][0] < 0.6 < written["wanted_interval_95"][1]
    assert [(row["task"], row["wanted"], row["answers"]) for row in written["by_task"]] == [
        ("translate", 0.5, 4), ("quote", 1.0, 1),
    ]  # fmt: skip
    for row in (written, *written["by_task"]):
        assert {"rpr", "wpr", "line_pass_rate", "failed", "confused_words", "accuracy"}.isdisjoint(row)
    shown = terminal(result)
    assert "wanted" in shown and "60.0" in shown.replace("0.600", "60.0")
    assert "WPR" not in shown and "confused" not in shown and "no RPR" in shown


def test_a_line_of_answers_says_whether_the_text_is_there_instead_of_a_verdict() -> None:
    right, wrong = (Judge("neutral").row(answer) for answer in answers("ญี่ปุ่น", "єна"))
    assert (right["wanted"], wrong["wanted"]) == (True, False)
    assert {"status", "first_confusion", "confused_words"}.isdisjoint(right)


def test_beside_answers_with_rates_the_total_is_of_those_with_rates(tmp_path: Path) -> None:
    result = result_of(
        tmp_path, answers("ญี่ปุ่น입니다") + answers("통화는 엔입니다", suite="lcb-monolingual", task="okapi")
    )
    assert result.total.rates.answers == 1 and result.total.rates.rpr == 1
    written: dict[str, Any] = result.to_json()
    assert written["rpr"] == 1 and "wanted" not in written
    assert [row.get("wanted") for row in written["by_task"]] == [1.0, None]
    shown = terminal(result)
    assert "RPR" in shown and "wanted" in shown


def test_the_command_samples_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = make_tiny_model(tmp_path / "tiny"), tmp_path / "out"
    request = Request(
        model=str(model), suite="wanted", languages=("ko", "ja"), limit=3, max_new_tokens=4, engine="transformers",
        output=output,
    )  # fmt: skip
    evaluate_command(request)
    written = json.loads((output / "result.json").read_text("utf-8"))
    assert written["wanted"] == 0 and written["prompts_answered"] == 6 and written["temperature"] == 0
    assert {row["language"] for row in written["by_task"]} == {"ko", "ja"}
    rows = [json.loads(line) for line in (output / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 6 and all(row["wanted"] is False and row["reference"] for row in rows)
    again = json.loads(json.dumps(evaluate(EvaluateRequest(answers=output)).to_json()))
    assert again["wanted"] == 0 and again["by_task"] == written["by_task"]
    assert "wanted" in capsys.readouterr().out
    with pytest.raises(UserError, match="leave --source"):
        evaluate_command(replace(request, output=None, source="x.jsonl"))


def test_no_prompt_has_two_right_answers() -> None:
    prompts = [(item.language, item.prompt) for item in wanted_items(LANGUAGES)]
    assert len(prompts) == len(set(prompts)) > 3000
