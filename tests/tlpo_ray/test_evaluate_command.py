"""`tlpo evaluate` on a tiny model: what it refuses before the model is loaded, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detectors import UnknownLanguageError
from tlpo_ray.commands.evaluate import Request, evaluate_command
from tlpo_ray.flow.errors import ModelError, PromptFileError, UserError

PROMPTS = ("일본의 통화는 무엇입니까?", "태국의 통화는 무엇입니까?", "길" * 5_000)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Options of a good request, but for its model."""
    file = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"id": f"p{number}", "prompt": text}) for number, text in enumerate(PROMPTS)]
    file.write_text("\n".join([*lines, '{"prompt": "東京は?", "language": "ja"}']), encoding="utf-8")
    return {
        "model": str(tmp_path / "no-model"), "prompts": str(file), "languages": ("ko",), "samples": 2,
        "max_new_tokens": 12, "engine": "transformers", "output": tmp_path / "out",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"languages": ("xx",)}, UnknownLanguageError, "'xx'"),
        ({"english": "maybe"}, UserError, "--english maybe: expected neutral or confusion"),
        ({"prompts": "gone.jsonl"}, PromptFileError, "gone.jsonl: no such file"),
        ({}, ModelError, "no-model"),
    ],
)
def test_a_wrong_request_is_refused(
    options: dict[str, Any], change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate_command(Request(**options | change))
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not options["output"].exists()


def test_an_existing_result_is_never_overwritten(options: dict[str, Any]) -> None:
    options["output"].mkdir()
    (options["output"] / "result.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a result\.json already"):
        evaluate_command(Request(**options))
    assert (options["output"] / "result.json").read_text() == "{}"


def test_prompts_of_another_language_are_not_asked(options: dict[str, Any]) -> None:
    Path(options["prompts"]).write_text('{"prompt": "東京は?", "language": "ja"}', encoding="utf-8")
    with pytest.raises(PromptFileError, match="no prompt in language 'ko'"):
        evaluate_command(Request(**options))


@pytest.mark.slow
def test_answers_and_rates_are_kept(options: dict[str, Any], tiny_model: Path) -> None:
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
