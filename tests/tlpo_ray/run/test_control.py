"""The two files by which somebody outside speaks with a run: what is in them is not to be trusted."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from tests.clusters import until
from tlpo_ray.commands.status import status_command
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import held
from tlpo_ray.run.control import MOST, STATUS, WANTED, Outside, look, read_status, scale, scale_asked_for
from tlpo_ray.run.resume import resumed_config


def run_of(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(load_config("quickstart", ["model.path=a", "data.prompts=b"])))
    return folder


def asked(folder: Path, wanted: str) -> int | None:
    outside = Outside(folder)
    (folder / WANTED).write_text(wanted)
    found = outside.wanted()
    assert outside.wanted() is None, "it is asked once"
    return found


def test_a_run_is_asked_for_a_number_of_rollout_actors(tmp_path: Path) -> None:
    assert asked(tmp_path, '{"rollout_actors": 3}') == 3
    assert asked(tmp_path, f'{{"rollout_actors": {MOST}}}') == MOST


@pytest.mark.parametrize(
    "number", ["0", "-1", "1e999", "1e12", "10001", "2.0", "true", "null", '"4"', "[]", "9" * 5_000]
)
def test_any_other_wish_is_ignored(number: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert asked(tmp_path, f'{{"rollout_actors": {number}}}') is None
    (record,) = caplog.records
    assert "is ignored" in record.message and len(record.message) < 400


@pytest.mark.parametrize("content", ["", "[1]", "5", "{}", "[" * 100_000])
def test_what_is_no_wish_is_ignored(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert asked(tmp_path, content) is None
    assert "cannot be read and is ignored" in caplog.records[0].message


def test_a_run_that_goes_on_becomes_what_it_was_last_asked_to_be_unless_told_otherwise(tmp_path: Path) -> None:
    def wish(*overrides: str) -> int | None:
        (run_of(tmp_path) / WANTED).write_text('{"rollout_actors": 5}')
        resumed_config(tmp_path, overrides)
        return Outside(tmp_path, resumed=True).wanted()

    assert wish() == wish("rollout.lease_size=32") == 5
    assert wish("rollout.num_actors=2") is wish("rollout={num_actors: 2}") is None
    assert asked(tmp_path, '{"rollout_actors": 5}') == 5
    assert Outside(tmp_path).wanted() is None, "another run in the same folder begins anew"


@pytest.mark.parametrize(("asked_for", "begins_with"), [(1, 1), (2, 2), (5, 2)])
def test_a_run_that_was_scaled_down_goes_on_where_only_that_fits(
    asked_for: int, begins_with: int, tmp_path: Path
) -> None:
    (run_of(tmp_path) / WANTED).write_text(f'{{"rollout_actors": {asked_for}}}')
    assert resumed_config(tmp_path, ()).rollout.num_actors == begins_with


def test_what_is_asked_of_a_run_that_is_going_on_is_not_lost_to_one_that_may_not_go_on(tmp_path: Path) -> None:
    (run_of(tmp_path) / WANTED).write_text('{"rollout_actors": 5}')
    with held(tmp_path), pytest.raises(UserError, match="another process works in"):
        resumed_config(tmp_path, ["rollout.num_actors=2"])
    assert scale_asked_for(tmp_path) == 5


@pytest.mark.parametrize("actors", [0, MOST + 1])
def test_nobody_can_ask_for_so_many(actors: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rollout actors are not possible: a run has 1 to 10,000"):
        scale(run_of(tmp_path), actors)
    assert not (tmp_path / WANTED).exists()


def test_a_folder_that_is_closed_is_one_line(tmp_path: Path) -> None:
    (run_of(tmp_path) / WANTED).mkdir()  # no mode keeps root out
    with pytest.raises(ResourceError, match=r"^cannot write .*wanted\.json: .*; free space there or make it writable$"):
        scale(tmp_path, 2)


@pytest.mark.parametrize(
    "status",
    ["[1]", "null", "{", '{"pid": 1}', '{"time": "1"}', '{"time": 1, "actors": [2]}', '{"time": 1, "progress": null}'],
)
def test_a_damaged_status_says_nothing(status: str, tmp_path: Path) -> None:
    (run_of(tmp_path) / STATUS).write_text(status)
    assert look(tmp_path) == {"folder": str(tmp_path), "complete": False}


def test_a_status_says_what_the_run_told(tmp_path: Path) -> None:
    Outside(run_of(tmp_path)).tell({"seconds": 1.5, "actors": {"healthy": 2}, "progress": 0})
    found = look(tmp_path)
    assert (found["seconds"], found["actors"], found["progress"]) == (1.5, {"healthy": 2}, 0)
    assert isinstance(found["host"], str)


def test_a_run_that_is_busy_with_something_else_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlpo_ray.run.control.BEAT_S", 0.05)
    outside = Outside(run_of(tmp_path))
    outside.tell({"seconds": 1.5})
    first = read_status(tmp_path)["time"]
    until(lambda: read_status(tmp_path)["time"] > first, "a sign of life")
    assert look(tmp_path)["age"] < 60 and look(tmp_path)["seconds"] == 1.5
    outside.close()
    time.sleep(0.2)
    last = read_status(tmp_path)["time"]
    time.sleep(0.3)
    assert read_status(tmp_path)["time"] == last


def test_a_status_without_a_figure_is_one_line(tmp_path: Path) -> None:
    (run_of(tmp_path) / STATUS).write_text(json.dumps({"time": time.time(), "seconds": 1.0, "prompts": {}}))
    with pytest.raises(UserError, match=r"status\.json in it lacks 'prompts_skipped'"):
        status_command(str(tmp_path), None, as_json=False)
