"""`tlpo evaluate` on a tiny model: what it refuses before the model is loaded, and what it saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from detectors import UnknownLanguageError
from tlpo_ray.cli import app
from tlpo_ray.commands.evaluate import Request, describe_stop, evaluate_command
from tlpo_ray.errors import ModelError, PromptFileError, UserError

PROMPTS = ("일본의 통화는 무엇입니까?", "태국의 통화는 무엇입니까?", "길" * 5_000)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Options of a valid request except for its model."""
    file = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"id": f"p{number}", "prompt": text}) for number, text in enumerate(PROMPTS)]
    file.write_text("\n".join([*lines, '{"prompt": "東京は?", "language": "ja"}']), encoding="utf-8")
    return {
        "model": str(tmp_path / "no-model"), "prompts": str(file), "languages": ("ko",), "samples": 2,
        "max_new_tokens": 12, "engine": "transformers", "output": tmp_path / "out",
    }  # fmt: skip


def test_a_stopped_command_says_whether_answers_are_kept(tmp_path: Path) -> None:
    nothing = "stopped by SIGINT; nothing of this comparison is kept"
    assert describe_stop("comparison", None, "SIGINT") == nothing
    assert describe_stop("comparison", tmp_path, "SIGINT") == nothing
    file = tmp_path / "answers.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    kept = f"stopped by SIGINT; the sampled answers are in {file}: tlpo evaluate --answers {file} judges them"
    assert describe_stop("comparison", tmp_path, "SIGINT") == kept


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        ({"languages": ("xx",)}, UnknownLanguageError, "'xx'"),
        ({"prompts": "gone.jsonl"}, PromptFileError, "gone.jsonl: no such file"),
        ({}, ModelError, "no-model"),
    ],
)
def test_a_wrong_request_is_refused(
    options: dict[str, Any], change: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate_command(Request(**options | change))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not options["output"].exists()


def test_an_unknown_english_setting_is_an_error_of_one_line(options: dict[str, Any]) -> None:
    arguments = [
        "evaluate",
        options["model"],
        "--prompts",
        options["prompts"],
        "--language",
        "ko",
        "--english",
        "maybe",
    ]
    done = CliRunner().invoke(app, [*arguments, "--output", str(options["output"])])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "--english maybe: expected neutral or confusion"
    assert not options["output"].exists()


def test_an_existing_result_is_never_overwritten(options: dict[str, Any]) -> None:
    options["output"].mkdir()
    (options["output"] / "result.json").write_text("{}")
    with pytest.raises(UserError, match=r"already holds a result\.json"):
        evaluate_command(Request(**options))
    assert (options["output"] / "result.json").read_text() == "{}"


def test_prompts_of_another_language_are_not_used(options: dict[str, Any]) -> None:
    Path(options["prompts"]).write_text('{"prompt": "東京は?", "language": "ja"}', encoding="utf-8")
    with pytest.raises(PromptFileError, match="no prompt in language 'ko'"):
        evaluate_command(Request(**options))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, "expected one of --prompts, --suite, --answers, --lm-eval, --accuracy, --perplexity; found none of them"),
        ({"suite": "mif", "answers": Path("a")}, "found --suite and --answers"),
        ({"suite": "mif"}, "--suite needs a MODEL"),
        ({"model": "m", "lm_eval": Path("a")}, "--lm-eval takes no MODEL"),
        ({"model": "m", "suite": "lcb"}, "--suite lcb: expected one of lcb-monolingual"),
        (
            {"answers": Path("a"), "temperature": 0.3},
            "--temperature does not go with --answers: it is for --prompts, --suite",
        ),
        ({"answers": Path("a"), "tasks": ("x",)}, "--task does not go with --answers: it is for --lm-eval"),
        ({"model": "m", "accuracy": "paper", "samples": 2}, "--samples does not go with --accuracy"),
        ({"model": "m", "accuracy": "paper", "english": "confusion"}, "--english does not go with --accuracy"),
        (
            {"lm_eval": Path("a"), "max_new_tokens": 5},
            "--max-new-tokens does not go with --lm-eval: it is for --prompts",
        ),
        (
            {"model": "m", "prompts": "p", "source": "s"},
            "--source does not go with --prompts: it is for --suite, --accuracy",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(request_: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluate_command(Request(**request_))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_saved_answers_are_judged_again_without_a_model(tmp_path: Path) -> None:
    """Under the other English setting, with accuracy; what is written can be judged once more."""
    answers = ("엔 is the currency. 답은 4", "엔입니다. 답은 5")
    rows = [
        {"suite": "gsm8k-cross", "task": "gsm8k-cross", "id": str(number), "language": "ko", "prompt": "…",
         "reference": "4", "sample": 0, "answer": answer}
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    evaluate_command(Request(answers=file, output=tmp_path / "neutral"))
    evaluate_command(Request(answers=tmp_path / "neutral", english="confusion", output=tmp_path / "confusion"))
    neutral, confusion = (
        json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("neutral", "confusion")
    )
    assert (neutral["rpr"], confusion["rpr"]) == (1.0, 0.5)
    assert neutral["accuracy"] == confusion["accuracy"] == 0.5
    with pytest.raises(UserError, match="no answer is in ja"):
        evaluate_command(Request(answers=file, languages=("ja",)))


def test_judging_saved_answers_imports_no_engine(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"language": "ko", "answer": "엔입니다."}) + "\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path\n"
        "from tlpo_ray.commands.evaluate import Request, evaluate_command\n"
        "evaluate_command(Request(answers=Path(sys.argv[1])))\n"
        "heavy = {'torch', 'transformers', 'vllm', 'ray', 'datasets', 'lm_eval'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], cwd=Path.cwd(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_answers_and_rates_are_saved(options: dict[str, Any], tiny_model: Path) -> None:
    evaluate_command(Request(**options | {"model": str(tiny_model)}))
    rows = [json.loads(line) for line in (options["output"] / "answers.jsonl").read_text("utf-8").splitlines()]
    assert [(row["id"], row["sample"]) for row in rows] == [("p0", 0), ("p0", 1), ("p1", 0), ("p1", 1)]
    result = json.loads((options["output"] / "result.json").read_text("utf-8"))
    assert (result["prompts_answered"], result["prompts_too_long"], result["answers"]) == (2, 1, 4)
    for status, count in (("pass", "passed"), ("fail", "failed"), ("empty", "empty")):
        assert result[count] == sum(row["status"] == status for row in rows)
    assert result["words"] == sum(row["words"] for row in rows)
    for row in rows:
        assert (row["status"] == "fail") == (row["first_confusion"] is not None)

    evaluate_command(Request(**options | {"model": str(tiny_model), "output": options["output"] / "again"}))
    again = (options["output"] / "again" / "answers.jsonl").read_bytes()
    assert again == (options["output"] / "answers.jsonl").read_bytes()
