"""A short run during which every kind of process is killed, the driver too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos import DRIVER, TLPO, disturb, groups_of_restarted_actors, learned_twice
from tests.small_run import LOCAL, assert_same_run, assert_same_weights, run, run_config
from tlpo_ray.config.load import dump_config

pytestmark = pytest.mark.ray

COPIES = 4
"""Copies of the prompts: enough updates for every kill to fall into its own."""
RESUMED = ("rollout.num_actors=1", "learner.num_ranks=1", "learner.zero_stage=2")
"""Settings that change when the driver is resumed. One actor: when it is restarted, there is work for it."""
VICTIMS = ("rollout actor", "exchange", DRIVER, "learner rank", "rollout actor")


def test_a_run_with_kills_ends_with_the_weights_of_one_without(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text(prompts.read_text() * COPIES)
    undisturbed = run(run_config(tiny_model, many, tmp_path / "undisturbed", **LOCAL))
    folder = tmp_path / "run"
    settings = {"flow.max_restarts": 50, "checkpoint.every_updates": 3, "flow.full_sync_interval": 4}
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(run_config(tiny_model, many, folder, **settings)))
    record = disturb([TLPO, "train", str(file)], folder, VICTIMS, seed=0, pause_s=(0.0, 0.5), resumed=RESUMED)
    assert [who for _, who in record.kills] == list(VICTIMS), "the run was over before all were killed"
    assert record.resumes == 1
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == undisturbed.updates
    assert_same_run(folder, (tmp_path / "undisturbed", undisturbed))
    assert not learned_twice(folder)
    assert groups_of_restarted_actors(folder) > 0
    assert_same_weights(folder, tmp_path / "undisturbed")
