"""A run whose processes are killed or stopped ends with the weights of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from detectors import detector
from tests.small_run import (
    assert_same_weights,
    kill_at,
    leaves_no_process,
    process_ids,
    run,
    run_config,
)
from tlpo_ray.data.load import checked_prompts
from tlpo_ray.errors import LearnerLostError, TlpoError
from tlpo_ray.run.build import assembled
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import Progress, TrainSummary, train

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]


def stop_then_kill(process: int) -> None:
    """What it is asked next, it never does: it is stopped now, and killed when the others wait for it."""
    os.kill(process, signal.SIGSTOP)
    threading.Timer(3.0, os.kill, (process, signal.SIGKILL)).start()


def test_who_hangs_holds_up_nobody_else_and_is_replaced(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """A rollout actor while it loads weights: the other does all the work, until its deadline. Then a learner rank."""
    stop_actor, actor = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    stop_rank, rank = kill_at("ray::LearnerProcess", version=2, how=signal.SIGSTOP)

    def listener(progress: Progress) -> None:
        stop_actor(progress)
        stop_rank(progress)

    settings = {"flow.sync_deadline_s": 30, "flow.update_deadline_s": 30}
    folder = tmp_path / "run"
    summary = run(run_config(tiny_model, prompts, folder, **settings), listener)
    assert actor and rank
    assert summary.restarts >= 1 and summary.learner_restarts >= 1  # on a busy machine a slow one may be taken for hung
    assert summary.accounting == local[1].accounting
    assert_same_weights(folder, local[0])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[1]["restarts"] == 0, "the second update did not wait for it"
    assert not {*actor, *rank} & set(process_ids("ray::")), "those that hung are gone"


def test_who_hangs_in_a_lot_is_replaced_and_finds_its_weights_gone_with_the_learner(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The only actor, and with it the learner that holds the published weights, while both have nothing to tell."""
    stopped: list[int] = []

    def listener(progress: Progress) -> None:
        if progress.version == 1 and progress.status.accounting.leased and not stopped:
            stopped.append(process_ids("ray::RolloutProcess")[0])
            os.kill(stopped[0], signal.SIGSTOP)
            for rank in process_ids("ray::LearnerProcess"):
                os.kill(rank, signal.SIGKILL)

    settings = {"rollout.num_actors": 1, "flow.heartbeat_s": 3, "rollout.lease_size": 2}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert stopped
    assert summary.restarts >= 1  # so short a heartbeat may also find out one that is only slow
    assert summary.learner_restarts == 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_who_hangs_before_a_broadcast_that_all_must_receive_is_replaced(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    stop, stopped = kill_at("ray::RolloutProcess", version=1, how=signal.SIGSTOP)
    settings = {"flow.weight_transfer": "gloo", "flow.heartbeat_s": 3, "flow.sync_deadline_s": 60}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), stop)
    assert stopped and summary.restarts >= 1
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_a_rank_that_is_lost_while_a_checkpoint_is_written_comes_back(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped just before it, killed while the others wait for it in a collective: no disk is full."""
    lost: list[int] = []

    def listener(progress: Progress) -> None:
        if progress.version == 1 and not lost:
            lost.append(process_ids("ray::LearnerProcess")[-1])
            stop_then_kill(lost[0])

    settings = {"checkpoint.every_updates": 1}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert summary.learner_restarts == 1
    assert "a learner rank failed during a checkpoint" in caplog.text
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_a_learner_that_is_lost_while_it_writes_the_model_leaves_rollout_actors_that_answer(
    local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """With engines that sleep while a learner works: they have its weights again before they are asked."""
    lost: list[int] = []

    def listener(progress: Progress) -> None:
        if progress.status.finished and not lost:
            lost.extend(process_ids("ray::LearnerProcess"))
            stop_then_kill(lost[0])

    settings = {"cluster.colocated": True, "rollout.num_actors": 1, "learner.num_ranks": 1}
    config = run_config(tiny_model, prompts, tmp_path / "run", **settings)
    asked = checked_prompts(config.data, config.detector, config.seed)
    with assembled(config, asked) as parts, RunFolder(config) as folder:
        summary = train(config, parts, folder, listener)
        answers = parts.fleet.answers(asked.prompts[:4], 2, 0.0, 8, 0)
    assert summary.learner_restarts == 1 and len(answers) == 8
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


def test_an_error_that_only_its_own_process_can_build_ends_no_run_with_a_traceback(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a detector that asks a service which rollout actors cannot reach; its class cannot be unpickled."""
    plugin = tmp_path / "plugin"
    installed = plugin / "bad_service-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-service\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[tlpo_ray.detectors]\nasks = bad_service:Asks\n")
    (plugin / "bad_service.py").write_text(BAD_SERVICE)
    monkeypatch.syspath_prepend(plugin)
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    monkeypatch.setattr(detector, "_installed", detector._installed.__wrapped__)  # not as this process has seen them
    settings = {"detector.name": "asks", "flow.max_restarts": 0, "rollout.num_actors": 1}
    with pytest.raises(
        TlpoError, match=r"^rollout actor rollout-0\.0 could not roll out a lot: .*Refused: status 503, "
    ):
        run(run_config(tiny_model, prompts, tmp_path / "run", **settings))


def test_without_a_restart_left_the_run_ends_says_so_and_leaves_nothing_behind(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, _ = kill_at("ray::LearnerProcess", version=1)
    error = r"a learner rank failed during .*; all 0 restarts \(flow.max_restarts\) are used up"
    with pytest.raises(LearnerLostError, match=error), leaves_no_process("ray::"):
        run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_restarts": 0}), killer)
