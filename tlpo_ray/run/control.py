"""Control files of a run: how `tlpo status` and `tlpo scale` talk to a run that is running.

status.json   the run's state, written about once per second
scale.json    the requested number of rollout actors
wanted.json   the same, for and from release 0.1.0
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tlpo_ray.cluster.events import STATUS, require_run
from tlpo_ray.config.load import load_config
from tlpo_ray.errors import DeadlineError, UserError, first_line
from tlpo_ray.files import disk_errors, read_json, write_json
from tlpo_ray.flow.metrics import METRICS, RENAMED_METRICS

logger = logging.getLogger(__name__)

SCALE = "scale.json"
SCALE_BEFORE = "wanted.json"
"""Name of `scale.json` in 0.1.0. Both are written and the newer is read, so that each release can scale either run."""
ANSWER_S = 30.0
"""How long a run may take to acknowledge a request, in seconds: a colocated update may be under way."""
HEARTBEAT_S = 10.0
"""Interval between two heartbeats of a run whose status does not change, during a checkpoint or an evaluation."""
POLL_S = 0.2
MAX_ACTORS = 10_000
"""Most rollout actors that can be requested: more is a typo, and their bookkeeping alone would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """State of a run, as it last reported it."""

    folder: Path
    complete: bool
    """Whether the run has ended and written its result."""
    age_s: float | None
    """Seconds since the last heartbeat; None if the run has not reported anything yet."""
    reported: Mapping[str, Any]
    """Metrics by name (`tlpo_ray.flow.metrics.METRICS`), and `time`, `host`, `pid`, `seconds`, `prompts_total`;
    and `slow`: what processes take longer for than its deadline, making progress, by their names."""

    def to_json(self) -> dict[str, Any]:
        """Return what `tlpo status --json` prints."""
        age = {} if self.age_s is None else {"age": self.age_s}
        return {"folder": str(self.folder), "complete": self.complete, **self.reported, **age}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunStatus:
        """Return the status that `to_json` was called on, here or by an earlier release."""
        reported = {name: value for name, value in values.items() if name not in ("folder", "complete", "age")}
        reported = _current_names(reported)  # the cluster may have an earlier release
        return cls(
            folder=Path(values["folder"]), complete=values["complete"], age_s=values.get("age"), reported=reported
        )


class RunControl:
    """The run's side of the control files.

    Args:
        keep_request: Keep the last scale request, because the run is resumed.
    """

    def __init__(self, folder: Path, *, keep_request: bool = False) -> None:
        self._folder = folder
        self._request_time = 0.0
        self._status: Mapping[str, Any] = {}
        self._writing, self._closed = Lock(), Event()
        (folder / STATUS).unlink(missing_ok=True)
        if not keep_request:
            clear_scale_request(folder)
        Thread(target=self._heartbeat, daemon=True).start()

    def requested_actors(self) -> int | None:
        """Return the requested number of rollout actors, or None if nothing new was requested since the last call."""
        try:
            modified = _scale_file(self._folder).stat().st_mtime
        except OSError:
            return None
        if modified == self._request_time:
            return None
        self._request_time = modified
        return read_scale_request(self._folder)

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Write the run's status, with time, host and process id."""
        self._status = status
        self._write()

    def close(self) -> None:
        """Stop the heartbeat."""
        self._closed.set()

    def _write(self) -> None:
        process = {"time": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid()}
        try:
            with self._writing:
                write_json(self._folder / STATUS, process | dict(self._status))
        except OSError as error:  # the run itself may not need more space
            logger.warning("%s cannot be written: %s", self._folder / STATUS, first_line(error))

    def _heartbeat(self) -> None:
        before: Mapping[str, Any] = {}
        while not self._closed.wait(HEARTBEAT_S):
            if self._status and self._status is before:
                self._write()
            before = self._status


def scale(folder: Path, actors: int) -> dict[str, int]:
    """Request a number of rollout actors from a run and wait until it has acknowledged the request.

    Args:
        folder: Folder of a run that is running.
        actors: Number of rollout actors, 1 to `MAX_ACTORS`.

    Returns:
        The number of rollout actors by state.

    Raises:
        UserError: The folder holds no run that could be scaled, or the number is not possible.
        ResourceError: The run's folder cannot be written.
        DeadlineError: The run does not acknowledge the request.
    """
    require_run(folder)
    if (folder / "result.json").exists():
        raise UserError(f"{folder} is complete, see result.json in it: there is nothing to scale")
    if load_config(str(folder / "config.yaml")).stack == "local":
        raise UserError(f"{folder} is a run in one process (stack: local), which cannot be scaled")
    if not 1 <= actors <= MAX_ACTORS:
        raise UserError(f"{actors:,} rollout actors are not possible: a run has 1 to {MAX_ACTORS:,}")
    for name in (SCALE, SCALE_BEFORE):
        with disk_errors(str(folder / name)):
            write_json(folder / name, {"rollout_actors": actors})
    began, requested = time.monotonic(), time.time()
    while time.monotonic() - began < ANSWER_S:
        status = read_status(folder)
        if status.get("rollout_actors") == actors and status["time"] > requested:
            states: dict[str, int] = status.get("actors", {})
            return states
        time.sleep(POLL_S)
    raise DeadlineError(
        f"the run in {folder} did not acknowledge the request within {ANSWER_S:g} s; check {STATUS} in it. The request "
        f"will apply when the run is resumed"
    )


def read_scale_request(folder: Path) -> int | None:
    """Return the number of rollout actors that `tlpo scale` last requested; None without a valid request."""
    file = _scale_file(folder)
    try:
        actors = read_json(file)["rollout_actors"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s cannot be read and is ignored: %s", file, first_line(error))
        return None
    if type(actors) is int and 1 <= actors <= MAX_ACTORS:
        return actors
    logger.warning("%s requests %.40r rollout actors and is ignored: a run has 1 to %d", file, actors, MAX_ACTORS)
    return None


def clear_scale_request(folder: Path) -> None:
    """Remove the last request of `tlpo scale`."""
    for name in (SCALE, SCALE_BEFORE):
        (folder / name).unlink(missing_ok=True)


def status(folder: Path) -> RunStatus:
    """Return what a run last reported.

    Raises:
        UserError: The folder does not hold a run.
    """
    require_run(folder)
    reported = read_status(folder)
    return RunStatus(
        folder=folder,
        complete=(folder / "result.json").exists(),
        # Measured here: the one who reads the status may be on another machine, with another clock.
        age_s=round(time.time() - reported["time"], 3) if reported else None,
        reported=reported,
    )


def read_status(folder: Path) -> dict[str, Any]:
    """Return what the run last reported; empty if it has reported nothing, or the file is damaged."""
    try:
        reported = _current_names(read_json(folder / STATUS))
    except (OSError, ValueError):
        return {}
    return reported if all(_is_valid(name, value) for name, value in ({"time": None} | reported).items()) else {}


def _current_names(reported: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with the metrics' names of this release, whichever release reported it."""
    return {RENAMED_METRICS.get(name, name): value for name, value in reported.items()}


def _is_valid(name: str, value: Any) -> bool:
    """Return whether a status may hold this value: metrics are numbers, labelled ones have a number per label."""
    if name == "slow":
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if name in METRICS and METRICS[name].label:
        return isinstance(value, dict) and all(isinstance(number, int | float) for number in value.values())
    return isinstance(value, int | float) or name not in {"time", "seconds", "prompts_total", *METRICS}


def _scale_file(folder: Path) -> Path:
    """Return the file with the last scale request, whichever release wrote it."""

    def modified(file: Path) -> float:
        try:
            return file.stat().st_mtime
        except OSError:
            return 0.0

    return max(folder / SCALE, folder / SCALE_BEFORE, key=modified)
