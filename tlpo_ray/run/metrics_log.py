"""The metrics of each update: one JSON line in `metrics.jsonl`, and the same scalars in TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tlpo_ray.files import atomic_write, disk_errors
from tlpo_ray.flow.metrics import METRICS


def truncate_metrics(file: Path, step: int) -> None:
    """Drop all lines after update `step`, and damaged lines, so that a run can be resumed after that update.

    Raises:
        ResourceError: The file cannot be written.
    """
    if not file.exists():
        return
    with disk_errors(f"metrics to {file}"), atomic_write(file) as partial:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int:
    """Return the update that a line belongs to, or 0 if the line is damaged."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return step if type(step) is int else 0


class MetricsLog:
    """Writes one line per update to `metrics.jsonl`, and the same scalars to TensorBoard.

    Args:
        file: The JSON lines; appended to if the file exists.
        tensorboard: Folder of the TensorBoard events.

    Raises:
        ResourceError: The file or the folder cannot be written.
    """

    def __init__(self, file: Path, tensorboard: Path) -> None:
        # Imported here because TensorBoard loads slowly, and not every importer of this module writes metrics.
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.listeners: list[Callable[[int, Mapping[str, float]], None]] = []
        """Functions that are called with each update and its metrics as well, e.g. those of trackers."""
        with disk_errors(f"metrics to {file}"):
            self._lines = file.open("a", encoding="utf-8")
        with disk_errors(f"metrics to {tensorboard}"):
            self._events = EventFileWriter(str(tensorboard))
        self._tensorboard = tensorboard

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of one update.

        Args:
            step: Number of the update.
            values: Metrics by name.

        Raises:
            KeyError: A metric has no entry in `METRICS`, or one that is not kept.
            ResourceError: They cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        unknown = [name for name in values if name not in METRICS or not METRICS[name].kept]
        if unknown:
            raise KeyError(f"metrics that flow/metrics.py does not keep: {sorted(unknown)}")
        now = time.time()
        with disk_errors(f"metrics to {self._lines.name}"):
            self._lines.write(json.dumps({"step": step, "time": round(now, 3)} | dict(values)) + "\n")
            self._lines.flush()
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        # The event file is written by a thread of its own; what that thread could not write is raised here.
        with disk_errors(f"metrics to {self._tensorboard}"):
            self._events.add_event(Event(wall_time=now, step=step, summary=summary))
        for listener in self.listeners:
            listener(step, values)

    def close(self) -> None:
        """Flush and close both files.

        Raises:
            ResourceError: They cannot be written.
        """
        with disk_errors(f"metrics to {self._lines.name}"):
            self._lines.close()
        with disk_errors(f"metrics to {self._tensorboard}"):
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
