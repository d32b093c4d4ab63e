"""A run whose processes are killed or stopped ends with the weights of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from detectors import registry
from tests.small_run import (
    assert_same_weights,
    kill_at,
    leaves_no_process,
    process_ids,
    run,
    run_config,
)
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import LearnerLostError, TlpoError
from tlpo_ray.progress import TrainingProgress
from tlpo_ray.run.build import build_components
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import TrainSummary, train

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]


def stop_then_kill(process: int) -> None:
    """Stop a process now, so that it never does what is next, and kill it once the others wait for it."""
    os.kill(process, signal.SIGSTOP)
    threading.Timer(3.0, os.kill, (process, signal.SIGKILL)).start()


def test_a_hung_process_is_replaced_and_blocks_no_other(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """A rollout actor hangs while it loads weights: the other does all the work. Then a learner rank hangs."""
    stop_actor, actor = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    stop_rank, rank = kill_at("ray::LearnerProcess", version=2, how=signal.SIGSTOP)

    def listener(progress: TrainingProgress) -> None:
        stop_actor(progress)
        stop_rank(progress)

    settings = {"flow.sync_deadline_s": 30, "flow.update_deadline_s": 30}
    folder = tmp_path / "run"
    summary = run(run_config(tiny_model, prompts, folder, **settings), listener)
    assert actor and rank
    assert (
        summary.incidents.actor_restarts >= 1 and summary.incidents.learner_restarts >= 1
    )  # on a busy machine a slow one may be taken for hung
    assert summary.accounting == local[1].accounting
    assert_same_weights(folder, local[0])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[1]["actor_restarts"] == 0, "the second update did not wait for it"
    assert not {*actor, *rank} & set(process_ids("ray::")), "those that hung are gone"


def test_rollout_actors_keep_working_while_a_lost_learner_starts_again(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """With room for groups of older policy versions, nothing of what is rolled out meanwhile is lost."""
    many = tmp_path / "many.jsonl"
    many.write_text(prompts.read_text() * 8)
    settings = {"flow.max_staleness": 100, "flow.queue_capacity": 500, "learner.groups_per_update": 4}
    config = run_config(tiny_model, many, tmp_path / "run", **settings)
    asked = load_prompts(config.data, config.detector, config.seed)
    killed: list[int] = []
    settled: list[int] = []
    """Prompts that had their outcome, at each look while the learner was not there."""
    with build_components(config, asked) as components, RunFolder(config) as folder:
        learner: Any = components.learner

        def listener(progress: TrainingProgress) -> None:
            if progress.version == 1 and not killed:
                killed.extend(process_ids("ray::LearnerProcess"))
                os.kill(killed[0], signal.SIGKILL)
            elif killed and learner.incarnation == 1 and not learner.poll_ready(0):
                settled.append(progress.settled + progress.queue_depth)
                assert progress.version >= 1, "versions never go backwards"

        summary = train(config, components, folder, listener)
    assert summary.incidents.learner_restarts == 1 and summary.incidents.actor_restarts == 0
    assert settled[-1] > settled[0], "rollouts stood still"
    assert summary.accounting.complete and summary.accounting.stale == 0


def test_an_actor_that_hangs_in_a_batch_is_replaced_and_its_weights_are_exported_again(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The only actor hangs, and the learner that holds the exported weights is killed with it."""
    stopped: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        if progress.version == 1 and progress.leased and not stopped:
            stopped.append(process_ids("ray::RolloutProcess")[0])
            os.kill(stopped[0], signal.SIGSTOP)
            for rank in process_ids("ray::LearnerProcess"):
                os.kill(rank, signal.SIGKILL)

    settings = {"rollout.num_actors": 1, "flow.heartbeat_s": 3, "rollout.lease_size": 2}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert stopped
    assert summary.incidents.actor_restarts >= 1  # so short a heartbeat may also find out one that is only slow
    assert summary.incidents.learner_restarts == 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_an_actor_that_hangs_before_a_broadcast_is_replaced(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    stop, stopped = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    settings = {"flow.weight_transfer": "gloo", "flow.heartbeat_s": 3, "flow.sync_deadline_s": 60}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), stop)
    assert stopped and summary.incidents.actor_restarts >= 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_a_rank_that_is_lost_during_a_checkpoint_is_restored(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped just before it and killed while the others wait in a collective: not mistaken for a full disk."""
    lost: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        if progress.version == 1 and not lost:
            lost.append(process_ids("ray::LearnerProcess")[-1])
            stop_then_kill(lost[0])

    settings = {"checkpoint.every_updates": 1}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert summary.incidents.learner_restarts == 1
    assert "a learner rank failed during a checkpoint" in caplog.text
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_rollout_actors_can_generate_after_the_learner_was_lost_during_the_model_export(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """Colocated engines, which sleep while the learner works, have its weights again before they generate."""
    lost: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        if progress.complete and not lost:
            lost.extend(process_ids("ray::LearnerProcess"))
            stop_then_kill(lost[0])

    settings = {"cluster.colocated": True, "rollout.num_actors": 1, "learner.num_ranks": 1}
    config = run_config(tiny_model, prompts, tmp_path / "run", **settings)
    asked = load_prompts(config.data, config.detector, config.seed)
    with build_components(config, asked) as components, RunFolder(config) as folder:
        summary = train(config, components, folder, listener)
        answers = components.fleet.generate(asked.prompts[:4], 2, 0.0, 8, 0)
    assert summary.incidents.learner_restarts == 1 and len(answers) == 8
    assert_same_weights(tmp_path / "run", local[0])


BAD_SERVICE = """
import ray


class Refused(Exception):
    def __init__(self, *, status):
        super().__init__(f"status {status}\\nFor more information: https://example.org")


class Asks:
    version = "1"

    def __init__(self, language, english):
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
            raise Refused(status=503)

    def find(self, text, prefix="", final=True):
        return None
"""


def test_an_error_that_cannot_be_unpickled_is_reported_in_one_line(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector that calls a service which rollout actors cannot reach raises an error of a class of its own."""
    plugin = tmp_path / "plugin"
    installed = plugin / "bad_service-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-service\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[tlpo_ray.detectors]\nasks = bad_service:Asks\n")
    (plugin / "bad_service.py").write_text(BAD_SERVICE)
    monkeypatch.syspath_prepend(plugin)
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)  # not as this process has seen them
    settings = {"detector.name": "asks", "flow.max_restarts": 0, "rollout.num_actors": 1}
    with pytest.raises(
        TlpoError, match=r"^rollout actor rollout-0\.0 could not roll out a batch: .*Refused: status 503, "
    ):
        run(run_config(tiny_model, prompts, tmp_path / "run", **settings))


def test_a_run_without_restarts_left_ends_with_one_line_and_leaves_no_process(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, _ = kill_at("ray::LearnerProcess", version=1)
    error = r"a learner rank failed during .*; all 0 restarts \(flow.max_restarts\) are used up"
    with pytest.raises(LearnerLostError, match=error), leaves_no_process("ray::"):
        run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_restarts": 0}), killer)
