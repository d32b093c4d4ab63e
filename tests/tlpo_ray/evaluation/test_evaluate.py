"""`evaluate` as a library: what it refuses, what it returns, and that it prints nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detectors import SettingError, UnknownLanguageError
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.evaluate import EvaluateRequest, evaluate

SEPARATORS = "엔\u2028입니다\u2029єна\u0085바트"
"""An answer with three characters at which `str.splitlines` would cut a line in two."""


def saved(folder: Path, *answers: str, language: str = "ko") -> Path:
    rows = [
        {"suite": "lcb-monolingual", "task": "okapi", "id": str(number), "language": language, "prompt": "…",
         "sample": 0, "answer": answer, "finished": number % 2 == 0, "tokens": 10 * number}
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    file = folder / "answers.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("request_", "error", "expected"),
    [
        ({}, UserError, "expected one of prompts, suite, answers, lm_eval; found none of them"),
        ({"suite": "mif", "answers": Path("a")}, UserError, "found suite and answers"),
        ({"suite": "mif"}, UserError, "suite needs a model"),
        ({"model": "m", "answers": Path("a")}, UserError, "answers takes no model"),
        ({"model": "m", "suite": "lcb"}, UserError, "expected one of lcb-monolingual"),
        ({"model": "m", "prompts": "p", "languages": ("ko", "ja")}, UserError, "--prompts needs one --language"),
        ({"model": "m", "suite": "mif", "languages": ("xx",)}, UnknownLanguageError, "'xx'"),
        (
            {"model": "m", "suite": "mif", "languages": ("ko",), "english": "maybe"},
            SettingError,
            "'maybe': expected neutral or confusion",
        ),
        ({"answers": Path("a"), "temperature": 0.3}, UserError, "temperature does not go with answers: it is for p"),
        ({"answers": Path("a"), "tasks": ("x",)}, UserError, "tasks does not go with answers: it is for lm_eval"),
        ({"lm_eval": Path("a"), "limit": 3}, UserError, "limit does not go with lm_eval: it is for prompts, suite"),
        ({"model": "m", "prompts": "p", "source": "s"}, UserError, "source does not go with prompts: it is for suite"),
        ({"answers": Path("gone")}, UserError, "no saved answers there"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    request_: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate(EvaluateRequest(**request_))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_saved_answers_are_judged_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = evaluate(EvaluateRequest(answers=saved(tmp_path, "엔입니다.", "єна입니다.")))
    assert result.total.rates.rpr == 0.5
    assert [(judgement.language, judgement.task) for judgement in result.judgements] == [("ko", "okapi")]
    assert (result.cut_off, result.mean_tokens, result.sampling) == (1, 5.0, None)
    result.write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text("utf-8")) == json.loads(json.dumps(result.to_json()))
    with pytest.raises(UserError, match=r"already holds a result\.json"):
        result.write(tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "a library prints nothing"


def test_unicode_line_separators_in_an_answer_do_not_end_a_line(tmp_path: Path) -> None:
    """The file that we write ourselves must be readable, whatever a model answers."""
    result = evaluate(EvaluateRequest(answers=saved(tmp_path, SEPARATORS, "엔입니다.")))
    result.write(tmp_path / "out")
    again = evaluate(EvaluateRequest(answers=tmp_path / "out"))
    assert [answer.answer for answer in again.answers] == [SEPARATORS, "엔입니다."]
    assert again.total == result.total
