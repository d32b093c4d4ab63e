"""A run that the earlier release has stopped is resumed, reported and ends with the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.small_run import LOCAL, assert_same_run, assert_same_weights, run_config
from tlpo_ray.config.renamed import RUN_KEYS
from tlpo_ray.errors import StoppedError
from tlpo_ray.flow.metrics import RENAMED_METRICS
from tlpo_ray.progress import ProgressListener, TrainingProgress
from tlpo_ray.report.page import write_report
from tlpo_ray.run.loop import TrainSummary
from tlpo_ray.run.training import resume_training, run_training


class StopAt(ProgressListener):
    """Stops a run when it reaches a policy version."""

    def __init__(self, version: int) -> None:
        self._version = version

    def training(self, progress: TrainingProgress) -> None:
        if progress.version == self._version:
            raise StoppedError("stopped", 15)


def with_old_keys(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a written-out configuration with the keys of the earlier release."""
    settings["flow"]["focus"] = settings["data"].pop("curriculum")
    for old, new in RUN_KEYS.items():
        section, _, name = new.partition(".")
        if name in settings.get(section, {}):
            settings[section][old.partition(".")[2]] = settings[section].pop(name)
    return settings


def with_old_columns(table: pa.Table) -> pa.Table:
    names = ["span_script" if name == "span_kind" else name for name in table.column_names]
    field = pa.field("probing_version", pa.int64(), nullable=False)
    version = table.column("sampling_version")
    return table.rename_columns(names).add_column(names.index("sampling_version") + 1, field, version)


def rewrite_stream(file: Path) -> None:
    with pa.ipc.open_stream(file.read_bytes()) as reader:
        old = with_old_columns(reader.read_all())
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, old.schema) as writer:
        writer.write_table(old)


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def with_old_counters(state: dict[str, Any], journal: Path) -> dict[str, Any]:
    counters = state.pop("counters")
    counters["kv_use"] = counters.pop("kv_cache_usage")
    counters["earlier"]["restarts"] = counters["earlier"].pop("actor_restarts")
    state["exchange"]["focus"] = state["exchange"].pop("curriculum")
    files = {name: digest((journal / name).read_bytes()) for name in state["files"]}
    return {**state, "tally": counters, "files": files}


def with_old_metrics(values: Mapping[str, float]) -> dict[str, float]:
    old_names = {new: old for old, new in RENAMED_METRICS.items()}
    return {old_names.get(name, name): value for name, value in values.items()}


def as_the_earlier_release_left_it(folder: Path) -> None:
    """Rewrite a stopped run's folder as commit b23ca43 would have left it."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(with_old_keys(yaml.safe_load(config.read_text()))))
    journal = folder / "journal"
    for file in journal.glob("*.arrow"):
        rewrite_stream(file)
    for file in journal.glob("state-*.json"):
        text = json.dumps(with_old_counters(json.loads(file.read_text().split("\n")[1]), journal))
        file.write_text(f"{digest(text.encode())}\n{text}\n")
    for file in (folder / "experiences").glob("*.parquet"):
        pq.write_table(with_old_columns(pq.read_table(file)), file)
    metrics = folder / "metrics.jsonl"
    lines = [json.dumps(with_old_metrics(json.loads(line))) for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.slow
def test_a_run_of_the_earlier_release_is_resumed_and_reported(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        run_training(run_config(tiny_model, prompts, folder, **LOCAL), progress=StopAt(2))
    assert list((folder / "experiences").glob("*.parquet"))
    as_the_earlier_release_left_it(folder)
    text = (folder / "config.yaml").read_text()
    assert "num_actors" not in text and "lot:" in text

    result = resume_training(folder)

    assert result.updates == local[1].updates and result.accounting == local[1].accounting
    assert_same_weights(folder, local[0])
    assert_same_run(folder, local)
    table = pq.read_table(folder / "experiences")
    assert "span_script" not in table.column_names and table.num_rows == result.confusion_points
    assert write_report(folder, tmp_path / "report").page.exists()
