"""One trial of the toy world: what it has sampled, it never samples again because judging failed."""

from __future__ import annotations

from pathlib import Path

import pytest

import detectors
from tlpo_ray.errors import JudgeError
from tlpo_ray.experiment import trial as trials
from tlpo_ray.experiment.plan import load_plan
from tlpo_ray.experiment.trial import run_trial
from tlpo_ray.files import read_json, read_json_lines


@pytest.mark.slow
def test_sampled_answers_outlast_a_judge_that_fails(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = (trial for trial in load_plan("smoke").trials() if trial.method == "none")
    monkeypatch.setattr(trials, "cached_toy_model", lambda *_, **__: tiny_model)
    folder = tmp_path / "runs" / trial.run
    with monkeypatch.context() as patched:
        patched.setattr(detectors, "count", lambda text, detector: 1 / 0)
        with pytest.raises(JudgeError) as caught:
            run_trial(trial, folder)
    assert "cannot be judged: ZeroDivisionError: division by zero; the sampled answers are in" in str(caught.value)
    assert str(caught.value).endswith(f"{folder}/sampled.json: the same command continues from them")
    answers = read_json(folder / "sampled.json")["answers"]
    monkeypatch.setattr(trials, "sample_answers", None)  # calling it would be an error
    row = run_trial(trial, folder)
    assert row["metrics"]["kl_clean"] == pytest.approx(0, abs=1e-6)
    assert [row["answer"] for _, row in read_json_lines(folder / "answers.jsonl")] == answers
    assert not (folder / "sampled.json").exists()
