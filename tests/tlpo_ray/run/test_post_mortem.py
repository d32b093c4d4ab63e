"""A person who asks a run's folder why it ended finds the answer there."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small_run import process_ids, run_config
from tlpo_ray.cluster.events import EVENTS, RESERVE, WARNING, read_events, recorded_events
from tlpo_ray.cluster.post_mortem import PostMortem, post_mortem
from tlpo_ray.cluster.process_log import KEPT_BYTES, MAX_BYTES, last_lines, remove_empty
from tlpo_ray.errors import LearnerLostError, StoppedError, UserError
from tlpo_ray.progress import ProgressListener, TrainingProgress
from tlpo_ray.run.training import run_training

TLPO = str(Path(sys.executable).with_name("tlpo"))
CRASH = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tlpo_ray.cluster.process_log import keep_output
os.write(2, b"before\\n")
keep_output(Path(sys.argv[1]), "actor-0")
print("in Python", flush=True)
subprocess.run(["sh", "-c", "echo by a child >&2"])
time.sleep(1.5)
os.write(2, b"terminate called\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def kinds(folder: Path) -> list[str]:
    return [event["kind"] for event in read_events(folder)]


def remote_error() -> Exception:
    """Return an error as a failed call on another process gives it."""
    try:
        try:
            raise RuntimeError("ray::update()\n  File 'worker.py', line 3\nValueError: 3 is not 4")
        except RuntimeError as cause:
            raise LearnerLostError("a learner rank failed during an update: 3 is not 4") from cause
    except LearnerLostError as error:
        return error


def test_what_our_loggers_report_and_how_a_run_ends_is_recorded(tmp_path: Path) -> None:
    with recorded_events(tmp_path, "a new run"):
        assert (tmp_path / RESERVE).exists()
        extra = {"process_name": "rollout-1.0", "error": remote_error()}
        logging.getLogger("actors.jobs").warning("rollout actor %s died", "rollout-1.0", extra=extra)
        logging.getLogger("other").warning("not ours")
    with pytest.raises(LearnerLostError), recorded_events(tmp_path, "resumed after update 3"):
        raise remote_error()
    with pytest.raises(StoppedError), recorded_events(tmp_path, "resumed after update 3"):
        raise StoppedError("stopped by SIGTERM; nothing is lost", signal.SIGTERM)
    logging.getLogger("actors.jobs").warning("after the end")
    assert not (tmp_path / RESERVE).exists()
    assert kinds(tmp_path) == ["begun", "warning", "complete", "begun", "failed", "begun", "stopped"]
    _, warning, _, _, failed, *_ = read_events(tmp_path)
    assert (warning["process"], warning["text"]) == ("rollout-1.0", "rollout actor rollout-1.0 died")
    assert warning["details"].endswith("ValueError: 3 is not 4")
    assert failed["text"] == "LearnerLostError: a learner rank failed during an update: 3 is not 4"


def test_a_line_that_a_dying_driver_left_half_written_spoils_no_other(tmp_path: Path) -> None:
    with recorded_events(tmp_path, "a new run"):
        pass
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"time": 3, "kind": "warn')
    with recorded_events(tmp_path, "resumed after update 1"):
        pass
    assert kinds(tmp_path) == ["begun", "complete", "begun", "complete"]


def test_a_name_that_is_not_unicode_can_be_recorded(tmp_path: Path) -> None:
    with recorded_events(tmp_path, "a new run") as log:
        log.add(WARNING, os.fsdecode(b"no file caf\xe9"))  # not by a logger: test workers cannot exchange such a text
    assert kinds(tmp_path) == ["begun", "warning", "complete"]


def test_credentials_in_an_error_are_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(UserError), recorded_events(tmp_path, "a new run"):
        raise UserError("cannot read s3://me:secret@host/prompts\nbecause of s3://me:secret@host/prompts")
    assert "secret" not in (tmp_path / EVENTS).read_text()


def test_what_a_process_prints_survives_its_crash_and_is_shown_where_it_was_before(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, tmp_path], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert last_lines(tmp_path / "actor-0.log", 9) == ["in Python", "by a child", "terminate called"]
    assert last_lines(tmp_path / "actor-0.log", 1) == ["terminate called"]
    assert done.stderr.splitlines()[:3] == ["before", "in Python", "by a child"]


def test_a_process_that_prints_without_end_does_not_fill_the_disk(tmp_path: Path) -> None:
    script = CRASH.replace('print("in Python", flush=True)', f"os.write(2, b'x' * 99 + b'\\n' * {MAX_BYTES})")
    subprocess.run([sys.executable, "-c", script, tmp_path], stderr=subprocess.DEVNULL)
    size = (tmp_path / "actor-0.log").stat().st_size
    assert KEPT_BYTES <= size < 2 * KEPT_BYTES
    assert last_lines(tmp_path / "actor-0.log", 1) == ["terminate called"]


def test_empty_logs_are_removed(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").touch()
    (logs / "b.log").write_text("said")
    remove_empty(logs)
    assert [file.name for file in logs.iterdir()] == ["b.log"]
    (logs / "b.log").unlink()
    remove_empty(logs)
    remove_empty(tmp_path / "missing")
    assert not logs.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run that has begun."""
    (tmp_path / "config.yaml").write_text("name: a\n")
    with pytest.raises(KeyboardInterrupt), recorded_events(tmp_path, "a new run"):
        raise KeyboardInterrupt
    events = (tmp_path / EVENTS).read_text().splitlines()
    (tmp_path / EVENTS).write_text(events[0] + "\n")  # as a driver leaves it that is killed
    return tmp_path


def test_a_driver_that_was_killed_has_left_no_end(folder: Path) -> None:
    ending = "no end was recorded: its driver was killed, or the machine of the driver was lost"
    assert post_mortem(folder).ending == ending
    (folder / "status.json").write_text(json.dumps({"time": time.time() - 3600}))
    assert " was lost after 20" in post_mortem(folder).ending
    said = {"time": time.time() - 3, "prompts_done": 6, "prompts_total": 1800, "policy_version": 2}
    (folder / "status.json").write_text(json.dumps(said))
    assert post_mortem(folder).progress == "6 of 1,800 prompts, policy version 2"
    assert post_mortem(folder).ending == "it is running"
    (folder / "result.json").write_text("{}")
    found = post_mortem(folder)
    assert found.ending == "complete" and not found.is_troubled


def test_the_command_shows_it_and_json_holds_it(folder: Path) -> None:
    with pytest.raises(LearnerLostError), recorded_events(folder, "resumed after update 3"):
        raise remote_error()
    (folder / "logs").mkdir()
    (folder / "logs" / "learner-0.0.log").write_text("one\n\ntwo\n")
    shown = subprocess.run([TLPO, "status", folder, "--post-mortem"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for text in (
        "end       failed: LearnerLostError: a learner rank failed during an update: 3 is not 4",
        "resumed after update 3", "the run failed", "│ ValueError: 3 is not 4", "last lines of learner-0.0", "    two",
    ):  # fmt: skip
        assert text in shown.stdout
    output = subprocess.run([TLPO, "status", folder, "--post-mortem", "--json"], capture_output=True, text=True).stdout
    assert PostMortem.from_json(json.loads(output)) == post_mortem(folder)
    missing = subprocess.run([TLPO, "status", folder / "none", "--post-mortem"], capture_output=True, text=True)
    assert missing.returncode != 0 and "does not hold a run" in missing.stderr


@pytest.mark.ray
def test_a_run_whose_learner_dies_too_often_tells_which_processes_died_and_why(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    class Killer(ProgressListener):
        """Kills a rollout actor after the first update, then every learner rank that there is."""

        def training(self, progress: TrainingProgress) -> None:
            if progress.version and not killed:
                killed.append(process_ids("ray::RolloutProcess")[0])
                os.kill(killed[0], signal.SIGKILL)
            elif killed:
                for rank in set(process_ids("ray::LearnerProcess")) - set(killed):
                    os.kill(rank, signal.SIGKILL)
                    killed.append(rank)

    folder = tmp_path / "run"
    settings = {"learner.groups_per_update": 4, "flow.max_restarts": 1}
    with pytest.raises(LearnerLostError):
        run_training(run_config(tiny_model, prompts, folder, **settings), progress=Killer())
    found = post_mortem(folder)
    assert found.ending.startswith("failed: LearnerLostError: a learner rank failed during ")
    texts = [event.text for event in found.events]
    assert texts[0] == "a new run"
    assert any(text.startswith("restarting the learner group: a learner rank failed") for text in texts)
    (lost,) = [event for event in found.events if event.process]
    assert lost.text.startswith(f"rollout actor {lost.process} died while trying to ")
    assert any("SIGKILL" in line or "connection error" in line for line in lost.details), lost.details
