"""The complete `tlpo experiment smoke` as a user runs it; then once more after two of its trials were lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.experiment.plan import load_plan
from tlpo_ray.report.summary import COLUMNS

pytestmark = [pytest.mark.ray, pytest.mark.slow]
RUNS = [trial.run for trial in load_plan("smoke").trials()]
DECODING = {"wanted", "interventions", "times_plain", "ms_per_token"}
"""Metrics that only a plan of decoding methods measures."""
METRICS = {column.name for column in COLUMNS} - DECODING - {"seconds", "tokens"} | {"rpr_asked", "kl_elsewhere"}
"""Metrics of every trial: those that the report shows, and two that are only in the results."""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("tlpo"), "experiment", "smoke", "--folder", "smoke"]
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "smoke" / "results.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return folder


def test_every_trial_leaves_a_row_a_model_and_its_answers(experiment: Path) -> None:
    results = rows(experiment)
    assert [row["run"] for row in results] == RUNS
    for row in results:
        assert row["metrics"].keys() >= METRICS, row["run"]
        folder = experiment / "smoke" / "runs" / row["run"]
        assert (folder / "answers.jsonl").exists()
        if row["method"] != "none":
            assert (folder / "model" / "model.safetensors").exists() and row["metrics"]["seconds"] > 0
            assert row["metrics"]["tokens"] > 0
            assert row["metrics"]["kl_clean"] > 0, "training changes the model"
    baseline = results[0]["metrics"]
    assert baseline["kl_clean"] == pytest.approx(0, abs=1e-6)
    assert baseline["rpr"] < 0.9 < baseline["accuracy"], "it confuses languages and knows the answers"


def test_analyses_are_made_of_the_tlpo_run(experiment: Path) -> None:
    advantage = json.loads((experiment / "smoke" / "advantage.json").read_text("utf-8"))
    rewards = {candidate["reward"] for candidate in advantage["candidates"]}
    assert rewards == {1.0, -1.0} and len(advantage["candidates"]) == 16
    assert sum(abs(candidate["tlpo"]) for candidate in advantage["candidates"]) == pytest.approx(1, abs=1e-4)
    shift = json.loads((experiment / "smoke" / "shift.json").read_text("utf-8"))
    before = {(group["confusing"], group["inside"]): group["before"] for group in shift["groups"]}
    assert shift["contexts"] > 10 and 0.9 < sum(before.values()) <= 1
    assert before[True, True] > before[True, False]


def test_the_report_is_written(experiment: Path) -> None:
    page = (experiment / "smoke" / "report" / "report.html").read_text("utf-8")
    for label in ("TLPO", "SFT", "DPO", "ORPO", "GRPO"):
        assert label in page


def test_only_missing_trials_are_run_again(experiment: Path) -> None:
    before = rows(experiment)
    kept = {name: (experiment / "smoke" / "runs" / name / "trial.json").stat().st_mtime_ns for name in RUNS}
    shutil.rmtree(experiment / "smoke" / "runs" / "tlpo-0")
    (experiment / "smoke" / "runs" / "sft-0" / "trial.json").write_text('{"key": "cut o')
    done = run(experiment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RUNS) - 2} of {len(RUNS)} trials are already done" in done.stdout
    for name in RUNS:
        again = (experiment / "smoke" / "runs" / name / "trial.json").stat().st_mtime_ns
        assert (again != kept[name]) == (name in ("tlpo-0", "sft-0"))
    for first, second in zip(before, rows(experiment), strict=True):
        first["metrics"].pop("seconds", None), second["metrics"].pop("seconds", None)
        assert first["metrics"] == second["metrics"], "a trial can be repeated"
