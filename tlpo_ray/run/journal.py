"""The journal: everything that a run needs to resume, whichever process died.

groups-<v>.arrow   the candidate groups that policy version v is made from, written before its update begins
queue-<v>.arrow    the candidate groups that were queued right after that update
state-<v>.json     the state right after it; written last, it commits the version

A learner that is restored loads a checkpoint and repeats the updates since, from the same groups at the same learning
rate. In float32 on the CPU it ends with exactly the same weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.errors import UserError, first_line
from tlpo_ray.files import atomic_write, disk_errors
from tlpo_ray.flow.exchange import Snapshot

logger = logging.getLogger(__name__)

MIN_STATES = 2
"""Least number of states that are kept: if the last one is damaged, the run resumes from the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A run right after an update."""

    version: int
    """Policy version that the update made."""
    progress: float
    """Share of the prompts consumed when the update began, which set its learning rate."""
    exchange: Snapshot
    counters: dict[str, Any]
    """The run's counters as JSON values (`counters.RunCounters`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What it takes to repeat an update."""

    version: int
    """Policy version that the update makes."""
    groups: bytes
    """Arrow stream of its candidate groups."""
    progress: float
    """Share of the prompts consumed when it began, which sets its learning rate."""


class Journal:
    """The journal of one run, in a folder of its own.

    Raises:
        ResourceError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write_groups(self, version: int, groups: bytes) -> None:
        """Write the groups that policy version `version` is about to be made from."""
        self._write(f"groups-{version:08d}.arrow", groups)

    def commit(self, state: State) -> None:
        """Write the state after an update: its version is committed, and a run that dies resumes from here."""
        version = state.version
        self._write(f"queue-{version:08d}.arrow", state.exchange.queue)
        content = {
            "version": version,
            "progress": state.progress,
            "exchange": state.exchange.state,
            "counters": state.counters,
            "files": {name: _file_digest(self._folder / name) for name in self._names(version)},
        }
        text = json.dumps(content)
        self._write(f"state-{version:08d}.json", f"{_digest(text.encode())}\n{text}\n".encode())

    def last(self) -> State | None:
        """Return the latest intact state, or None if no update has been made.

        Raises:
            UserError: None of the states is intact.
        """
        versions = self._versions()
        for version in reversed(versions):
            try:
                return self._state(version)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is damaged (%s): using the one before", self._file(version), first_line(error))
        if versions:
            raise UserError(
                f"none of the {len(versions)} states in {self._folder} is intact: the run cannot be resumed"
            )
        return None

    def updates(self, after: int, until: int) -> Iterator[Update]:
        """Yield the updates that made policy versions `after` + 1 to `until`.

        Raises:
            UserError: One of them is pruned, missing or damaged.
        """
        first = min(self._versions(), default=after + 1)
        if after + 1 < first <= until:
            raise UserError(
                f"the journal {self._folder} begins with policy version {first}, and all checkpoints, or files of "
                f"experiences, that hold the versions before it are damaged or missing: restore one"
            )
        for version in range(after + 1, until + 1):
            try:
                state = self._state(version)
                groups = (self._folder / f"groups-{version:08d}.arrow").read_bytes()
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"the update that made policy version {version} cannot be repeated, its groups or state in "
                    f"{self._folder} are damaged: {first_line(error)}"
                ) from error
            yield Update(version=version, groups=groups, progress=state.progress)

    def prune(self, version: int) -> None:
        """Remove updates up to `version`, which a checkpoint holds, but never the last few states."""
        for old in self._versions()[:-MIN_STATES]:
            if old <= version:
                self._file(old).unlink()  # first: without it the version is not committed
                for name in self._names(old):
                    (self._folder / name).unlink(missing_ok=True)

    def _state(self, version: int) -> State:
        """Return a state after checking every byte of it."""
        digest, text = self._file(version).read_text(encoding="utf-8").splitlines()
        if _digest(text.encode()) != digest:
            raise ValueError("its checksum is wrong")
        content = json.loads(text)
        for name, expected in content["files"].items():
            if _file_digest(self._folder / name) != expected:
                raise ValueError(f"the checksum of {name} is wrong")
        queue = (self._folder / f"queue-{version:08d}.arrow").read_bytes()
        return State(
            version=content["version"],
            progress=content["progress"],
            exchange=Snapshot(state=content["exchange"], queue=queue),
            # Earlier releases called the counters a tally.
            counters=content["counters"] if "counters" in content else content["tally"],
        )

    def _file(self, version: int) -> Path:
        return self._folder / f"state-{version:08d}.json"

    @staticmethod
    def _names(version: int) -> tuple[str, str]:
        return f"groups-{version:08d}.arrow", f"queue-{version:08d}.arrow"

    def _versions(self) -> list[int]:
        return sorted(int(file.stem.rpartition("-")[2]) for file in self._folder.glob("state-*.json"))

    def _write(self, name: str, content: bytes) -> None:
        with _disk_errors(self._folder), atomic_write(self._folder / name) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _disk_errors(folder: Path) -> AbstractContextManager[None]:
    return disk_errors(f"the journal {folder}", f", then resume with tlpo train --resume {folder.parent}")


def _file_digest(file: Path) -> str:
    return _digest(file.read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
