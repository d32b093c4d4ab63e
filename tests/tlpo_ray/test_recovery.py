"""A run whose processes are killed or stopped ends with the weights of one that nobody disturbed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.small_run import (
    assert_same_weights,
    kill_at,
    leaves_no_process,
    process_ids,
    run,
    run_config,
)
from tlpo_ray.flow.errors import TlpoError
from tlpo_ray.train import TrainSummary

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]


def test_a_killed_rollout_actor_changes_nothing_but_time(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, killed = kill_at("ray::RolloutProcess", version=2)
    local_folder, local_summary = local
    # Weights as differences: the actor that comes anew has missed some.
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.delta_refresh": 100}), killer)
    assert killed
    assert summary.restarts >= 1
    assert summary.accounting == local_summary.accounting
    assert_same_weights(tmp_path / "run", local_folder)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    whole = (tiny_model / "model.safetensors").stat().st_size
    assert all(0 < line["sync_bytes"] < whole for line in lines)


def test_a_killed_learner_rank_starts_the_group_again_and_changes_nothing(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """From its checkpoint of version 2 and the journal."""
    killer, killed = kill_at("ray::LearnerProcess", version=3)
    folder = tmp_path / "run"
    summary = run(run_config(tiny_model, prompts, folder, **{"checkpoint.every_updates": 2}), killer)
    assert killed
    assert summary.learner_restarts == 1
    assert summary.restarts == summary.exchange_restarts == 0
    assert summary.accounting == local[1].accounting
    assert_same_weights(folder, local[0])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["policy_version"] for line in lines] == list(range(1, summary.updates + 1))


def test_a_killed_exchange_starts_again_and_changes_nothing(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, killed = kill_at("ray::Exchange", version=1)
    summary = run(run_config(tiny_model, prompts, tmp_path / "run"), killer)
    assert killed
    assert summary.exchange_restarts == 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_a_rollout_actor_that_hangs_is_found_out_and_replaced(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The only one, so that nobody does its work."""
    stopper, stopped = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    settings = {"rollout.actors": 1, "flow.heartbeat_s": 2, "flow.sync_deadline_s": 10}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), stopper)
    assert stopped
    assert summary.restarts >= 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])
    assert not set(stopped) & set(process_ids("ray::")), "the one that hung is gone"


def test_an_actor_that_hangs_while_it_loads_weights_holds_nobody_up(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The run ends before its deadline has passed."""
    stopper, stopped = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.sync_deadline_s": 600}), stopper)
    assert stopped
    assert summary.restarts == 0
    assert_same_weights(tmp_path / "run", local[0])


def test_a_learner_rank_that_hangs_is_found_out_and_the_group_starts_again(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    stopper, stopped = kill_at("ray::LearnerProcess", version=1, how=signal.SIGSTOP)
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.update_deadline_s": 20}), stopper)
    assert stopped
    assert summary.learner_restarts == 1
    assert_same_weights(tmp_path / "run", local[0])


@pytest.mark.parametrize(
    ("title", "error"),
    [
        ("ray::LearnerProcess", r"a learner rank failed during .*; all 0 restarts \(flow.max_restarts\) are used up"),
        ("ray::Exchange", r"the exchange was lost .* all 0 restarts \(flow.max_restarts\) are used up"),
    ],
)
def test_without_a_restart_left_the_run_ends_says_so_and_leaves_nothing_behind(
    title: str, error: str, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, _ = kill_at(title, version=1)
    with pytest.raises(TlpoError, match=error), leaves_no_process("ray::"):
        run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_restarts": 0}), killer)
