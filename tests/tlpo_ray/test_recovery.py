"""A run whose processes are killed or stopped ends with the weights of one that nobody disturbed."""

from __future__ import annotations

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
from tlpo_ray.flow.errors import LearnerLostError
from tlpo_ray.train import Progress, TrainSummary

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]


def test_who_hangs_is_found_out_and_replaced(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The only rollout actor, so that nobody does its work, and then a learner rank."""
    stop_actor, actor = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    stop_rank, rank = kill_at("ray::LearnerProcess", version=2, how=signal.SIGSTOP)

    def listener(progress: Progress) -> None:
        stop_actor(progress)
        stop_rank(progress)

    settings = {
        "rollout.actors": 1,
        "flow.heartbeat_s": 2,
        "flow.sync_deadline_s": 10,
        "flow.update_deadline_s": 20,
    }
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert actor and rank
    assert summary.restarts >= 1
    assert summary.learner_restarts == 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])
    assert not {*actor, *rank} & set(process_ids("ray::")), "those that hung are gone"


def test_an_actor_that_hangs_while_it_loads_weights_holds_nobody_up(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The run ends before its deadline has passed."""
    stopper, stopped = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.sync_deadline_s": 600}), stopper)
    assert stopped
    assert summary.restarts == 0
    assert_same_weights(tmp_path / "run", local[0])


def test_without_a_restart_left_the_run_ends_says_so_and_leaves_nothing_behind(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, _ = kill_at("ray::LearnerProcess", version=1)
    error = r"a learner rank failed during .*; all 0 restarts \(flow.max_restarts\) are used up"
    with pytest.raises(LearnerLostError, match=error), leaves_no_process("ray::"):
        run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_restarts": 0}), killer)
