"""The control files of a run: their content is not trusted."""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clusters import wait_until
from tlpo_ray.commands.status import status_command
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import lock_folder
from tlpo_ray.run.control import (
    MAX_ACTORS,
    SCALE,
    SCALE_BEFORE,
    STATUS,
    RunControl,
    RunStatus,
    read_scale_request,
    read_status,
    scale,
    status,
)
from tlpo_ray.run.resume import resumed_config


def run_of(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(load_config("quickstart", ["model.path=a", "data.prompts=b"])))
    return folder


def request(folder: Path, content: str) -> int | None:
    control = RunControl(folder)
    (folder / SCALE).write_text(content)
    actors = control.requested_actors()
    assert control.requested_actors() is None, "a request is read once"
    return actors


def test_a_request_sets_the_number_of_rollout_actors(tmp_path: Path) -> None:
    assert request(tmp_path, '{"rollout_actors": 3}') == 3
    assert request(tmp_path, f'{{"rollout_actors": {MAX_ACTORS}}}') == MAX_ACTORS


@pytest.mark.parametrize(
    "number", ["0", "-1", "1e999", "1e12", "10001", "2.0", "true", "null", '"4"', "[]", "9" * 5_000]
)
def test_any_other_number_is_ignored(number: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert request(tmp_path, f'{{"rollout_actors": {number}}}') is None
    (record,) = caplog.records
    assert "is ignored" in record.message and len(record.message) < 400


@pytest.mark.parametrize("content", ["", "[1]", "5", "{}", "[" * 100_000])
def test_anything_but_a_request_is_ignored(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert request(tmp_path, content) is None
    assert "cannot be read and is ignored" in caplog.records[0].message


def test_a_resumed_run_keeps_the_last_request_unless_a_setting_replaces_it(tmp_path: Path) -> None:
    def kept_request(*overrides: str) -> int | None:
        (run_of(tmp_path) / SCALE).write_text('{"rollout_actors": 5}')
        resumed_config(tmp_path, overrides)
        return RunControl(tmp_path, keep_request=True).requested_actors()

    assert kept_request() == kept_request("rollout.lease_size=32") == 5
    assert kept_request("rollout.num_actors=2") is kept_request("rollout={num_actors: 2}") is None
    assert request(tmp_path, '{"rollout_actors": 5}') == 5
    assert RunControl(tmp_path).requested_actors() is None, "a new run in the same folder starts without a request"


@pytest.mark.parametrize(("requested", "begins_with"), [(1, 1), (2, 2), (5, 2)])
def test_a_run_that_was_scaled_down_resumes_small(requested: int, begins_with: int, tmp_path: Path) -> None:
    (run_of(tmp_path) / SCALE).write_text(f'{{"rollout_actors": {requested}}}')
    assert resumed_config(tmp_path, ()).rollout.num_actors == begins_with


def test_a_refused_resume_does_not_clear_the_request_to_the_running_run(tmp_path: Path) -> None:
    (run_of(tmp_path) / SCALE).write_text('{"rollout_actors": 5}')
    with lock_folder(tmp_path), pytest.raises(UserError, match="another process writes into"):
        resumed_config(tmp_path, ["rollout.num_actors=2"])
    assert read_scale_request(tmp_path) == 5


@pytest.mark.parametrize("actors", [0, MAX_ACTORS + 1])
def test_an_impossible_number_is_refused(actors: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rollout actors are not possible: a run has 1 to 10,000"):
        scale(run_of(tmp_path), actors)
    assert not (tmp_path / SCALE).exists()


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (run_of(tmp_path) / SCALE).mkdir()  # no mode keeps root out
    with pytest.raises(ResourceError, match=r"^cannot write .*scale\.json: .*; free space there or make it writable$"):
        scale(tmp_path, 2)


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "null",
        "{",
        '{"pid": 1}',
        '{"time": "1"}',
        '{"time": 1, "actors": [2]}',
        '{"time": 1, "progress": null}',
        '{"time": 1, "slow": ["rollout-0.0"]}',
        '{"time": 1, "slow": {"learner": 3}}',
    ],
)
def test_a_damaged_status_counts_as_none(content: str, tmp_path: Path) -> None:
    (run_of(tmp_path) / STATUS).write_text(content)
    assert status(tmp_path).to_json() == {"folder": str(tmp_path), "complete": False}


def test_a_status_holds_what_the_run_reported(tmp_path: Path) -> None:
    RunControl(run_of(tmp_path)).write_status({"seconds": 1.5, "actors": {"healthy": 2}, "progress": 0})
    found = status(tmp_path)
    assert RunStatus.from_json(json.loads(json.dumps(found.to_json()))) == found
    reported = found.reported
    assert (reported["seconds"], reported["actors"], reported["progress"]) == (1.5, {"healthy": 2}, 0)
    assert isinstance(reported["host"], str)


def test_a_run_with_an_unchanged_status_sends_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlpo_ray.run.control.HEARTBEAT_S", 0.05)
    control = RunControl(run_of(tmp_path))
    control.write_status({"seconds": 1.5})
    first = read_status(tmp_path)["time"]
    wait_until(lambda: read_status(tmp_path)["time"] > first, "a heartbeat")
    age_s, reported = status(tmp_path).age_s, status(tmp_path).reported
    assert age_s is not None and age_s < 60 and reported["seconds"] == 1.5
    control.close()
    time.sleep(0.2)
    last = read_status(tmp_path)["time"]
    time.sleep(0.3)
    assert read_status(tmp_path)["time"] == last


def test_a_status_that_lacks_a_metric_is_reported_in_one_line(tmp_path: Path) -> None:
    (run_of(tmp_path) / STATUS).write_text(json.dumps({"time": time.time(), "seconds": 1.0, "prompts": {}}))
    with pytest.raises(UserError, match=r"status\.json in it lacks 'prompts_skipped'"):
        status_command(str(tmp_path), None, as_json=False)


def test_the_status_of_a_cluster_with_an_earlier_release_is_read() -> None:
    printed = {"folder": "/runs/a", "complete": False, "seconds": 2.0, "restarts": 1, "kv_use": 0.5, "age": 3.0}
    remote = RunStatus.from_json(printed)
    assert remote.reported == {"seconds": 2.0, "actor_restarts": 1, "kv_cache_usage": 0.5}
    assert (remote.folder, remote.age_s) == (Path("/runs/a"), 3.0)


def test_a_running_run_of_an_earlier_release_is_scaled(tmp_path: Path) -> None:
    """Its driver polls `wanted.json` alone."""
    folder = run_of(tmp_path)

    def earlier_driver() -> None:
        wait_until((folder / SCALE_BEFORE).exists, "the request")
        actors = json.loads((folder / SCALE_BEFORE).read_text())["rollout_actors"]
        status = {"time": time.time() + 1, "rollout_actors": actors, "actors": {"healthy": actors}, "restarts": 0}
        (folder / STATUS).write_text(json.dumps(status))

    with ThreadPoolExecutor() as pool:
        driver = pool.submit(earlier_driver)
        assert scale(folder, 3) == {"healthy": 3}
        driver.result()
    assert (folder / SCALE).read_text() == (folder / SCALE_BEFORE).read_text()


def test_a_run_is_scaled_by_an_earlier_release_too(tmp_path: Path) -> None:
    control, now = RunControl(tmp_path), time.time()
    for seconds, name, actors in ((0, SCALE, 5), (1, SCALE_BEFORE, 3), (2, SCALE, 4)):
        (tmp_path / name).write_text(json.dumps({"rollout_actors": actors}))
        os.utime(tmp_path / name, (now + seconds, now + seconds))
        assert control.requested_actors() == read_scale_request(tmp_path) == actors
        assert control.requested_actors() is None
    RunControl(tmp_path)
    assert not (tmp_path / SCALE).exists() and not (tmp_path / SCALE_BEFORE).exists()


def test_a_request_to_a_run_of_an_earlier_release_is_kept(tmp_path: Path) -> None:
    (run_of(tmp_path) / SCALE_BEFORE).write_text('{"rollout_actors": 1}')
    assert resumed_config(tmp_path, ()).rollout.num_actors == 1
    assert RunControl(tmp_path, keep_request=True).requested_actors() == 1
    RunControl(tmp_path)
    assert not (tmp_path / SCALE_BEFORE).exists(), "a new run starts without a request"


def test_slow_work_is_shown_while_the_run_is_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported = {"seconds": 900.0, "slow": {"rollout-0.0": "has worked 720 s on a batch", "learner": "has worked 9 s"}}
    RunControl(run_of(tmp_path)).write_status(reported)
    status_command(str(tmp_path), None, as_json=False)
    assert "slow      rollout-0.0 has worked 720 s on a batch; learner has worked 9 s\n" in capsys.readouterr().out
    status_command(str(tmp_path), None, as_json=True)
    assert json.loads(capsys.readouterr().out)["slow"] == reported["slow"]
    (tmp_path / "result.json").write_text("{}")
    status_command(str(tmp_path), None, as_json=False)
    assert "rollout-0.0" not in capsys.readouterr().out
