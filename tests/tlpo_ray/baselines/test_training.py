"""Baseline runs: what is refused before anything starts, and the run folder that each method leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlpo_ray.baselines.training import train_baseline
from tlpo_ray.config.baseline import BaselineConfig, load_baseline
from tlpo_ray.config.load import build_config, read_settings
from tlpo_ray.errors import ConfigError, ModelError, PromptFileError, UserError

METHODS = ("sft", "dpo", "orpo", "grpo")
QUESTIONS = ("일본의 통화는 무엇입니까?", "태국의 통화는 무엇입니까?", "미국의 통화는?", "수도는?", "길" * 600)
SHORT = (
    "answers.max_new_tokens=24", "answers.temperature=1.0", "trainer.batch_size=4", "trainer.micro_batch_size=4",
    "trainer.num_generations=4", "trainer.max_new_tokens=8",
)  # fmt: skip


@pytest.fixture
def overrides(tmp_path: Path, curt_model: Path) -> tuple[str, ...]:
    """Overrides of a small run, for any method."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "language": "ko"}) + "\n" for text in QUESTIONS))
    return (f"model.path={curt_model}", f"data.prompts={file}", f"folder={tmp_path / 'run'}", *SHORT)


@pytest.mark.parametrize(
    ("method", "change", "error", "expected"),
    [
        ("dpo", "data.prompts=gone.jsonl", PromptFileError, "gone.jsonl: no such file"),
        ("dpo", "data.max_characters=2", PromptFileError, "none of 5 prompts is left"),
        ("orpo", "model.path=./nowhere", ModelError, "model './nowhere': no tokenizer found"),
        ("dpo", "trainer.extra={loss_typ: ipo}", ConfigError, "trainer.extra.loss_typ"),
        ("dpo", "answers.max_new_tokens=1", UserError, "dpo: no example from 4 prompts"),
    ],
)
@pytest.mark.slow
def test_a_run_that_cannot_start_is_reported_in_one_line_and_leaves_nothing(
    method: str, change: str, error: type[Exception], expected: str, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        train_baseline(load_baseline(f"{method}-toy", "quickstart", [*overrides, change]))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_its_folder(
    method: str, overrides: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, folder = load_baseline(f"{method}-toy", "quickstart", overrides), tmp_path / "run"
    result = train_baseline(config)
    assert json.loads((folder / "result.json").read_text("utf-8")) == result.to_json()
    assert build_config(BaselineConfig, read_settings(str(folder / "config.yaml")), source="test") == config
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert result.steps == len(lines) >= 1
    assert lines[-1]["progress"] == 1
    assert {"loss", "lr", "time"} <= lines[0].keys()
    assert ({"reward", "length"} <= lines[0].keys()) == (method == "grpo")

    counts = result.examples
    assert counts["prompts"] == 4 and result.prompts_skipped == {"longer than 500 characters": 1}
    unused = sum(counts.get(name, 0) for name in ("all_clean", "all_confused", "unanswered", "not_renderable"))
    assert counts["used"] + unused == counts["prompts"]
    assert result.tokens_generated > 0
    assert result.seconds.keys() == {"sampling", "training"}
    AutoModelForCausalLM.from_pretrained(folder / "model"), AutoTokenizer.from_pretrained(folder / "model")

    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "a library prints nothing"
    with pytest.raises(UserError, match="already holds a run"):
        train_baseline(config)


@pytest.mark.slow
def test_the_command_prints_its_result_and_nothing_else(overrides: tuple[str, ...], tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("tlpo"), "baseline", "grpo-toy", "quickstart", *overrides]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "libraries are kept quiet"
    printed = [line for line in done.stdout.splitlines() if not line.startswith("GRPO ")]
    assert printed == [
        "4 optimizer steps; 4 examples from 4 prompts",
        f"model:   {tmp_path / 'run' / 'model'}",
        f"result:  {tmp_path / 'run' / 'result.json'}",
    ]
