"""Metrics in W&B and MLflow: the real packages, which write into folders here."""

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
from tlpo_ray.run.trackers import TRACKED, Told, check_trackers, told
from tlpo_ray.run.training import run_training

BOTH = "[wandb, mlflow]"
BLOCK = 32 << 10


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both write into files, for want of a server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())


def of_wandb(folder: Path) -> list[dict[str, float]]:
    """What W&B has of a run, a line an update."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                keys = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                found.append({key: json.loads(value) for key, value in keys.items()})
    return found


def records(log: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB, pieces with their length and kind (whole, first, middle, last)."""
    at, whole = 7, b""  # behind W&B's own header
    while at + 7 <= len(log):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        whole += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def of_mlflow(run: str, metric: str) -> dict[int, float]:
    from mlflow import MlflowClient

    return {one.step: one.value for one in MlflowClient().get_metric_history(run, metric)}


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_run_and_its_second_life_are_one_run_in_both(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config = run_config(tiny_model, prompts, tmp_path / "run", trackers=BOTH, **LOCAL)
    run_training(config)
    names = json.loads((config.folder / TRACKED).read_text())
    lines = [json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    losses = {line["step"]: line["loss"] for line in lines}
    assert of_mlflow(names["mlflow"], "loss") == losses
    kept = {int(line["_step"]): line["loss"] for line in of_wandb(config.folder)}
    assert kept == pytest.approx(losses)
    run = MlflowClient().get_run(names["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.params["learner.groups_per_update"] == str(config.learner.groups_per_update)

    with pytest.raises(KeyboardInterrupt), told(config) as again:  # a second life, which is stopped
        again.write(1000, {"loss": 0.5})
        raise KeyboardInterrupt
    assert json.loads((config.folder / TRACKED).read_text()) == names
    assert of_mlflow(names["mlflow"], "loss") == losses | {1000: 0.5}
    assert MlflowClient().get_run(names["mlflow"]).info.status == "FAILED"


@pytest.mark.slow
def test_a_tracker_that_nobody_answers_for_is_one_line(
    tiny_model: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And tells nobody the password in its address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    config = run_config(tiny_model, prompts, tmp_path / "run", trackers="[mlflow]")
    with (
        pytest.raises(UserError, match=r"trackers has mlflow, which does not start: .*127\.0\.0\.1") as error,
        told(config),
    ):
        pass
    assert "\n" not in str(error.value)
    assert "hunter2" not in f"{error.value}{caplog.text}{capfd.readouterr()}"


@pytest.mark.parametrize("kept", ["[1]", '{"mlflow": 5}', '{"ml'])
def test_names_that_are_damaged_are_one_line(kept: str, tmp_path: Path) -> None:
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path}", f"trackers={BOTH}"])
    (tmp_path / TRACKED).write_text(kept)
    with pytest.raises(UserError, match=r"trackers\.json is damaged \(.*\): remove it") as error, told(config):
        pass
    assert "\n" not in str(error.value)


def test_names_that_cannot_be_kept_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(
        "quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path / 'gone'}", "trackers=[mlflow]"]
    )
    monkeypatch.setitem(trackers.KINDS, "mlflow", lambda config, known: Kept(breaks_at=-1))
    with pytest.raises(ResourceError, match=r"^cannot write .*trackers\.json: "), told(config):
        pass


def test_a_run_can_be_stopped_while_a_tracker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={tmp_path}", "trackers=[mlflow]"])
    monkeypatch.setitem(trackers.KINDS, "mlflow", Mock(side_effect=StoppedError("stopped by SIGTERM", 15)))
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM$"), told(config):
        pass


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="trackers has mlflow, which is not installed: pip install mlflow-skinny"):
        check_trackers(["mlflow"])


class Kept:
    """Keeps what it is told, until it breaks."""

    id = "one"

    def __init__(self, breaks_at: int) -> None:
        self.breaks_at = breaks_at
        self.steps: list[int] = []
        self.complete: bool | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.breaks_at:
            raise OSError("no more room at https://me:hunter2@cloud/a@b\nnor below")
        self.steps.append(step)

    def finish(self, *, complete: bool) -> None:
        self.complete = complete


def test_one_that_breaks_is_told_no_more_and_the_others_are(caplog: pytest.LogCaptureFixture) -> None:
    whole, broken = Kept(breaks_at=-1), Kept(breaks_at=2)
    both = Told({"whole": whole, "broken": broken})
    with caplog.at_level(logging.WARNING):
        for step in range(1, 5):
            both.write(step, {"loss": 0.0})
        both.close(complete=True)
    assert (whole.steps, whole.complete) == ([1, 2, 3, 4], True)
    assert (broken.steps, broken.complete) == ([1], None)
    assert [record.message for record in caplog.records] == [
        "broken takes no more metrics of this run: no more room at https://cloud/a@b"
    ]


def test_no_key_is_in_a_configuration() -> None:
    """They are the environment's."""
    assert not any("key" in name or "token" in name for name in RunConfig.model_fields)
