"""The comparison before and after training keeps its answers until they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import detectors
from actors.completions import Completion
from actors.worker import RolloutWorker, build_worker
from tests.small_run import LOCAL, run_config, write_prompts
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.errors import JudgeError
from tlpo_ray.files import read_json, read_json_lines
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart import scoring
from tlpo_ray.quickstart.comparison import Comparison
from tlpo_ray.quickstart.held_out import HeldOutQuestions
from tlpo_ray.quickstart.toy_questions import ToyQuestions
from tlpo_ray.quickstart.world import toy_world
from tlpo_ray.run.components import Fleet


class OneWorker:
    """A fleet of one worker in this process, which counts the answers that it is asked for."""

    def __init__(self, worker: RolloutWorker) -> None:
        self._worker, self.sampled = worker, 0

    def generate(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Completion]:
        self.sampled += len(prompts) * samples
        return self._worker.generate(prompts, samples, temperature, max_new_tokens, seed)


@pytest.mark.slow
def test_sampled_answers_outlast_a_judge_that_fails(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(tmp_path / "prompts.jsonl")
    config = run_config(tiny_model, tmp_path / "prompts.jsonl", tmp_path / "run", **LOCAL)
    config.folder.mkdir()
    questions = HeldOutQuestions(
        [Prompt(index=index, id=f"p{index}", language="ko", text=f"{index}?") for index in range(60)], "neutral"
    )
    worker = build_worker(config.model, config.rollout, DetectorConfig(), 0)
    fleet: Fleet = OneWorker(worker)  # type: ignore[assignment]
    comparison = Comparison(questions, config)
    comparison.before(fleet)
    comparison.after(fleet)
    (tmp_path / "run" / "model").symlink_to(tiny_model)
    with monkeypatch.context() as patched:
        patched.setattr(detectors.LanguageDetector, "count", lambda self, text: 1 / 0)
        with pytest.raises(JudgeError) as caught:
            comparison.results(tmp_path / "run" / "model")
    assert str(caught.value) == (
        f"an answer to 'p0' in ko cannot be judged: ZeroDivisionError: division by zero; the sampled answers are in "
        f"{tmp_path}/run/after.json: tlpo train --resume {tmp_path}/run continues from them"
    )
    kept = read_json(tmp_path / "run" / "after.json")["answers"]

    resumed, other = Comparison(questions, config), OneWorker(worker)
    resumed.before(other)  # type: ignore[arg-type]
    resumed.after(other)  # type: ignore[arg-type]
    resumed.results(tmp_path / "run" / "model")
    assert other.sampled == 0
    rows = [row for _, row in read_json_lines(tmp_path / "run" / "answers.jsonl")]
    assert [row["answer"] for row in rows if row["when"] == "after"] == kept
    assert not (tmp_path / "run" / "after.json").exists()


def test_the_answer_that_cannot_be_judged_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = ToyQuestions(toy_world())
    answers = ["?"] * (len(questions.prompts) * questions.samples)
    monkeypatch.setattr(scoring.detectors, "find", lambda text, detector: 1 / 0)
    with pytest.raises(JudgeError, match=f"an answer to '{questions.prompts[0].id}' in .* cannot be judged"):
        questions.score(answers)
