"""The quickstart on a published model, from the package index to the report: here with a tiny model, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tlpo_ray.errors import StoppedError, UserError
from tlpo_ray.progress import PhaseUpdate, ProgressListener
from tlpo_ray.quickstart import resume_quickstart, run_quickstart
from tlpo_ray.quickstart.held_out import RealScore, read_held_out
from tlpo_ray.quickstart.real_models import RealModel

SIZES = ("data.limit=24", "data.languages=[es, fr]", "rollout.max_new_tokens=8", "learner.groups_per_update=4")

pytestmark = pytest.mark.slow


class StopBeforeTheEnd(ProgressListener):
    """Interrupts a run when it begins to sample the answers after training."""

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        if "answers after training" in description:
            raise KeyboardInterrupt
        with super().phase(description) as update:
            yield update


def test_a_stopped_quickstart_on_a_published_model_is_resumed_and_compared_on_held_out_prompts(
    offered: Callable[[str], RealModel], tmp_path: Path
) -> None:
    offered("smollm2")
    folder = tmp_path / "run"
    with pytest.raises((KeyboardInterrupt, StoppedError)):
        run_quickstart(
            model="smollm2", stack="local", overrides=[*SIZES, f"folder={folder}"], progress=StopBeforeTheEnd()
        )
    result = resume_quickstart(folder)
    before, after = result.comparison.before, result.comparison.after
    assert isinstance(before, RealScore) and isinstance(after, RealScore)
    held_out = read_held_out(folder)
    assert held_out is not None and before.answers == after.answers >= len(held_out)
    trained_on = {json.loads(line)["prompt"] for line in (folder / "prompts.jsonl").read_text("utf-8").splitlines()}
    assert len(trained_on) == 24 and trained_on.isdisjoint(prompt.text for prompt in held_out)
    written = json.loads((folder / "result.json").read_text())
    assert written["rpr_after"] == after.rpr and written["prompts"]["total"] == 24
    assert written["rpr_interval_95_before"] == list(before.rpr_interval) and "accuracy_before" not in written
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(answers) == 2 * before.answers
    assert {row["prompt"] for row in answers} == {prompt.text for prompt in held_out}
    page = result.report.page.read_text("utf-8")
    assert "right answers" not in page and f"{before.answers:,}" in page


def test_prompts_are_for_published_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--prompts needs --model: the toy model"):
        run_quickstart(prompts="mine.jsonl", stack="local", overrides=[f"folder={tmp_path}"])
    with pytest.raises(UserError, match="--model phi-4: expected smollm2 or gemma-3-270m"):
        run_quickstart(model="phi-4", stack="local", overrides=[f"folder={tmp_path}"])
