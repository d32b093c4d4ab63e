"""`evaluate` as a library: what it refuses, what it returns, and that it prints nothing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detectors import SettingError, UnknownLanguageError
from tlpo_ray.errors import JudgeError, UserError
from tlpo_ray.evaluation.evaluate import EvaluateRequest, evaluate
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.evaluation.suites import SUITES

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


def unknown_instruction(folder: Path) -> Path:
    """Return MIF records of which IFEval does not know an instruction: a judge that fails after the sampling."""
    known, unknown = ["punctuation:no_comma"], ["punctuation:no_comma", "keywords:from_next_year"]
    rows = [
        {"key": number, "prompt": f"일본의 통화는 {number}?", "instruction_id_list": names, "kwargs": [{}] * len(names)}
        for number, names in enumerate((known, unknown, known))
    ]
    file = folder / "ko.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("with_output", [True, False])
def test_sampled_answers_outlast_a_judge_that_fails(
    with_output: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "mif", replace(SUITES["mif"], missing=str))
    request = EvaluateRequest(
        model=str(tiny_model), suite="mif", source=str(unknown_instruction(tmp_path)), languages=("ko",),
        engine="transformers", max_new_tokens=8,
    )  # fmt: skip
    output = tmp_path / "out" if with_output else None
    with pytest.raises(JudgeError, match="answer 0 to '1' of mif in ko cannot be judged: KeyError") as caught:
        evaluate(request, output=output)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    (found,) = re.findall(r"the sampled answers are in (\S+): tlpo evaluate --answers \1 judges them", message)
    file = Path(found)
    assert not with_output or file == tmp_path / "out" / "answers.jsonl"
    assert [row.item.id for row in read_answers(file, None)] == ["0", "1", "2"]
    with pytest.raises(JudgeError, match="answer 0 to '1' of mif in ko cannot be judged") as again:
        evaluate(EvaluateRequest(answers=file))
    assert "the sampled answers are in" not in str(again.value), "they are where the user has them"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[2]]), encoding="utf-8")
    result = evaluate(EvaluateRequest(answers=file), output=tmp_path / "rest")
    assert [row.item.id for row in read_answers(tmp_path / "rest", None)] == ["0", "2"]
    assert result.total.accuracy is not None
    if not with_output:
        shutil.rmtree(file.parent)


@pytest.mark.slow
def test_answers_that_are_judged_leave_nothing_elsewhere(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "일본의 통화는?"}), encoding="utf-8")
    request = EvaluateRequest(
        model=str(tiny_model), prompts=str(prompts), languages=("ko",), engine="transformers", max_new_tokens=8
    )
    result = evaluate(request)
    assert list(tmp_path.iterdir()) == [prompts]
    evaluate(request, output=tmp_path / "out")
    result.write(tmp_path / "same")
    assert (tmp_path / "out" / "answers.jsonl").read_bytes() == (tmp_path / "same" / "answers.jsonl").read_bytes()
    one, other = (json.loads((tmp_path / folder / "result.json").read_bytes()) for folder in ("out", "same"))
    assert one.keys() == other.keys()
    differing = {key for key in one if one[key] != other[key]}
    assert differing <= {"seconds", "ms_per_token"}, "everything but time is the same again"
    with pytest.raises(UserError, match="already holds a result"):
        evaluate(request, output=tmp_path / "out")
