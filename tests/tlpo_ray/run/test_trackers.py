"""Metrics in W&B and MLflow: the real packages, which write to local folders."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.small_run import LOCAL, run_config
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ResourceError, StoppedError, UserError
from tlpo_ray.run import trackers
from tlpo_ray.run.trackers import RUN_IDS, BackgroundTracker, check_trackers, start_trackers
from tlpo_ray.run.training import run_training

BOTH = "[wandb, mlflow]"
BLOCK = 32 << 10
"""Size of a block of a LevelDB log in bytes."""
HEADER = 7
"""Size of W&B's own header, and of the header of each LevelDB fragment, in bytes."""


@pytest.fixture
def without_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both trackers write to files instead of a server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())


def wandb_history(folder: Path) -> list[dict[str, float]]:
    """Return the metrics that W&B has of a run, one row per update."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                keys = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                rows.append({key: json.loads(value) for key, value in keys.items()})
    return rows


def records(log: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: blocks of fragments with length and kind (full, first, middle, last)."""
    position, record = HEADER, b""
    while position + HEADER <= len(log):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        length, kind = int.from_bytes(log[position + 4 : position + 6], "little"), log[position + 6]
        record += log[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            yield record
            record = b""


def mlflow_history(run: str, metric: str) -> dict[int, float]:
    from mlflow import MlflowClient

    return {point.step: point.value for point in MlflowClient().get_metric_history(run, metric)}


@pytest.mark.slow
@pytest.mark.usefixtures("without_servers")
def test_a_resumed_run_continues_the_same_run_in_both_trackers(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config = run_config(tiny_model, prompts, tmp_path / "run", trackers=BOTH, **LOCAL)
    run_training(config)
    names = json.loads((config.folder / RUN_IDS).read_text())
    lines = [json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    losses = {line["step"]: line["loss"] for line in lines}
    assert mlflow_history(names["mlflow"], "loss") == losses
    kept = {int(line["_step"]): line["loss"] for line in wandb_history(config.folder)}
    assert kept == pytest.approx(losses)
    run = MlflowClient().get_run(names["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.params["learner.groups_per_update"] == str(config.learner.groups_per_update)

    with pytest.raises(KeyboardInterrupt), start_trackers(config) as tracker:  # resumed, then stopped
        tracker.log(1000, {"loss": 0.5})
        raise KeyboardInterrupt
    assert json.loads((config.folder / RUN_IDS).read_text()) == names
    assert mlflow_history(names["mlflow"], "loss") == losses | {1000: 0.5}
    assert MlflowClient().get_run(names["mlflow"]).info.status == "FAILED"


@pytest.mark.slow
def test_a_tracker_whose_server_does_not_answer_is_reported_in_one_line(
    tiny_model: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The password in its address appears nowhere."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    config = run_config(tiny_model, prompts, tmp_path / "run", trackers="[mlflow]")
    with (
        pytest.raises(UserError, match=r"trackers has mlflow, which does not start: .*127\.0\.0\.1") as error,
        start_trackers(config),
    ):
        pass
    assert "\n" not in str(error.value)
    assert "hunter2" not in f"{error.value}{caplog.text}{capfd.readouterr()}"


@pytest.mark.parametrize("kept", ["[1]", '{"mlflow": 5}', '{"ml'])
def test_damaged_run_ids_are_reported_in_one_line(kept: str, tmp_path: Path) -> None:
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path}", f"trackers={BOTH}"])
    (tmp_path / RUN_IDS).write_text(kept)
    with (
        pytest.raises(UserError, match=r"trackers\.json is damaged \(.*\): remove it") as error,
        start_trackers(config),
    ):
        pass
    assert "\n" not in str(error.value)


def test_run_ids_that_cannot_be_written_are_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(
        "quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path / 'gone'}", "trackers=[mlflow]"]
    )
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda config, run_id: RecordingTracker(fails_at=-1))
    with pytest.raises(ResourceError, match=r"^cannot write .*trackers\.json: "), start_trackers(config):
        pass


def test_a_run_can_be_stopped_while_a_tracker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path}", "trackers=[mlflow]"])
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Mock(side_effect=StoppedError("stopped by SIGTERM", 15)))
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM$"), start_trackers(config):
        pass


def test_a_tracker_that_is_not_installed_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="trackers has mlflow, which is not installed: pip install mlflow-skinny"):
        check_trackers(["mlflow"])


class RecordingTracker:
    """A tracker in memory that raises at a given step."""

    id = "one"

    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at
        self.steps: list[int] = []
        self.complete: bool | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise OSError("no more room at https://me:hunter2@cloud/a@b\nnor below")
        self.steps.append(step)

    def finish(self, *, complete: bool) -> None:
        self.complete = complete


def test_a_tracker_that_fails_is_dropped_and_the_others_continue(caplog: pytest.LogCaptureFixture) -> None:
    intact, broken = RecordingTracker(fails_at=-1), RecordingTracker(fails_at=2)
    tracker = BackgroundTracker({"intact": intact, "broken": broken})
    with caplog.at_level(logging.WARNING):
        for step in range(1, 5):
            tracker.log(step, {"loss": 0.0})
        tracker.close(complete=True)
    assert (intact.steps, intact.complete) == ([1, 2, 3, 4], True)
    assert (broken.steps, broken.complete) == ([1], None)
    assert [record.message for record in caplog.records] == [
        "broken failed and gets no more metrics of this run: no more room at https://cloud/a@b"
    ]


def test_no_setting_holds_a_key() -> None:
    """Keys belong in the environment."""
    assert not any("key" in name or "token" in name for name in RunConfig.model_fields)
