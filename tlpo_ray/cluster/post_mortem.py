"""The end of a run as its folder records it: what happened when, and what its processes printed last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.cluster.events import COMPLETE, FAILED, SILENT_S, STATUS, STOPPED, WARNING, read_events, require_run
from tlpo_ray.cluster.process_log import LOGS, last_lines
from tlpo_ray.cluster.stacks import STACKS
from tlpo_ray.files import read_json

SHOWN_LINES = 12
"""Last lines of a process, and lines of an error's details, that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a run or one of its processes."""

    time: float
    """Seconds since 1970."""
    kind: str
    """See `tlpo_ray.cluster.events`."""
    text: str
    process: str | None
    """Name of the process that it concerns; None if it concerns the run."""
    details: list[str]
    """Last lines of what its error said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostMortem:
    """How a run ended, and what was recorded before that."""

    folder: Path
    ending: str
    """How it ended, in a line."""
    progress: str | None
    """How far it had come, in a line; None if it had not begun to roll out."""
    is_troubled: bool
    """Whether anything happened that a complete run does not have."""
    events: tuple[Event, ...]
    """All events, oldest first."""
    output: Mapping[str, Sequence[str]]
    """Last lines that each process printed, by its name."""
    stacks: tuple[Path, ...]
    """Files with the stacks of processes that missed a deadline."""

    def to_json(self) -> dict[str, Any]:
        """Return what `tlpo status --post-mortem --json` prints."""
        return {**asdict(self), "folder": str(self.folder), "stacks": [str(file) for file in self.stacks]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PostMortem:
        """Return what `to_json` was called on."""
        return cls(
            folder=Path(values["folder"]),
            ending=values["ending"],
            progress=values["progress"],
            is_troubled=values["is_troubled"],
            events=tuple(Event(**event) for event in values["events"]),
            output=values["output"],
            stacks=tuple(map(Path, values["stacks"])),
        )


def post_mortem(folder: Path) -> PostMortem:
    """Read what a run's folder holds about its end.

    Args:
        folder: Folder of a run, which may have ended in any way, or still be running.

    Raises:
        UserError: The folder does not hold a run.
    """
    require_run(folder)
    events = tuple(_event(values) for values in read_events(folder))
    output = {file.stem: last_lines(file, SHOWN_LINES) for file in sorted((folder / LOGS).glob("*.log"))}
    return PostMortem(
        folder=folder,
        ending=_ending(folder, events),
        progress=_progress(folder),
        is_troubled=any(event.kind in (WARNING, FAILED) for event in events) or not _is_complete(folder),
        events=events,
        output={name: lines for name, lines in output.items() if lines},
        stacks=tuple(sorted((folder / STACKS).glob("*.txt"))),
    )


def _event(values: Mapping[str, Any]) -> Event:
    details = str(values.get("details", "")).split("\n")
    return Event(
        time=float(values.get("time", 0)),
        kind=str(values.get("kind")),
        text=str(values.get("text")),
        process=values.get("process"),
        details=[line for line in details if line.strip(" ^~")][-SHOWN_LINES:],  # without Python's marks of columns
    )


def _is_complete(folder: Path) -> bool:
    return (folder / "result.json").exists()


def _ending(folder: Path, events: Sequence[Event]) -> str:
    """Return how a run ended, from its last event or from its silence."""
    last = next((event for event in reversed(events) if event.kind != WARNING), None)
    if _is_complete(folder):
        return "complete"
    if last is not None and last.kind == FAILED:
        return f"failed: {last.text}"
    if last is not None and last.kind == STOPPED:
        return last.text
    heard = _last_heartbeat(folder)
    if heard is not None and time.time() - heard < SILENT_S:
        return "it is running"
    when = "" if heard is None else f" after {clock(heard)}"
    if last is not None and last.kind == COMPLETE:
        return f"training ended, but what follows it did not{when}"
    return f"no end was recorded: its driver was killed, or the machine of the driver was lost{when}"


def _progress(folder: Path) -> str | None:
    """Return how far a run had come."""
    try:
        reported = read_json(folder / STATUS)
        prompts = f"{reported['prompts_done']:,} of {reported['prompts_total']:,} prompts"
        return f"{prompts}, policy version {reported['policy_version']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_heartbeat(folder: Path) -> float | None:
    """Return when a run last gave a sign of life, in seconds since 1970; None if it never did."""
    try:
        return float(read_json(folder / STATUS)["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clock(seconds: float) -> str:
    """Return a time since 1970 in seconds as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
