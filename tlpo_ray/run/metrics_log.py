"""The metrics that are kept: one JSON line per update in `metrics.jsonl`, and the same scalars in TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tlpo_ray.files import replacing, written
from tlpo_ray.flow.metrics import METRICS


def truncate_metrics(file: Path, step: int) -> None:
    """Drop lines after `step`, and those that are cut or damaged, so that a run can go on there.

    Raises:
        ResourceError: there is no room left to write to.
    """
    if not file.exists():
        return
    with written(f"metrics to {file}"), replacing(file) as partial:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int:
    """The update that a line of metrics is of; 0 if it is damaged."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return step if type(step) is int else 0


class MetricsLog:
    """Writes one line an update to `metrics.jsonl` and the same scalars to TensorBoard.

    Raises:
        ResourceError: there is no room left to write to.
        KeyError: a metric without an entry in `METRICS`.
    """

    def __init__(self, file: Path, tensorboard: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.followers: list[Callable[[int, Mapping[str, float]], None]] = []
        """Who else is told of each update."""
        with written(f"metrics to {file}"):
            self._lines = file.open("a", encoding="utf-8")
        with written(f"metrics to {tensorboard}"):
            self._events = EventFileWriter(str(tensorboard))
        self._tensorboard = tensorboard

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One update's metrics."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        unknown = [name for name in values if name not in METRICS or not METRICS[name].kept]
        if unknown:
            raise KeyError(f"metrics that flow/metrics.py does not keep: {sorted(unknown)}")
        now = time.time()
        with written(f"metrics to {self._lines.name}"):
            self._lines.write(json.dumps({"step": step, "time": round(now, 3)} | dict(values)) + "\n")
            self._lines.flush()
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        with written(f"metrics to {self._tensorboard}"):  # what a thread of its own could not write is told here
            self._events.add_event(Event(wall_time=now, step=step, summary=summary))
        for follow in self.followers:
            follow(step, values)

    def close(self) -> None:
        """Flush and close both files.

        Raises:
            ResourceError: there is no room left to write to.
        """
        with written(f"metrics to {self._lines.name}"):
            self._lines.close()
        with written(f"metrics to {self._tensorboard}"):
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
