"""What a run needs to go on where it was, whoever died: its checkpoints, and a journal of the updates since.

groups-<v>.arrow   the candidate groups that policy version v was made from, written before its update begins
state-<v>.json     how things were after it: written last, it makes the version count
queue-<v>.arrow    candidate groups that waited then

A learner that is to go on loads a checkpoint and makes the updates since once more, from the same groups at the same
learning rate: in float32 on the CPU it ends with the same weights.
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
from tlpo_ray.files import replacing, written
from tlpo_ray.flow.exchange import Snapshot

logger = logging.getLogger(__name__)

KEPT = 2
"""States that are kept at least: when the last is damaged, the run goes on from the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A run right after an update."""

    version: int
    """Policy version that the update made."""
    progress: float
    """Share of the prompts consumed when it began: what its learning rate came from."""
    exchange: Snapshot
    tally: dict[str, Any]
    """What the loop had counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An update that can be made again."""

    version: int
    payload: bytes
    """Its candidate groups, an Arrow stream."""
    progress: float


class Journal:
    """The journal of one run, in a folder of its own.

    Raises:
        ResourceError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def keep_groups(self, version: int, payload: bytes) -> None:
        """Before an update begins: what policy version `version` is to be made from."""
        self._write(f"groups-{version:08d}.arrow", payload)

    def commit(self, state: State) -> None:
        """After it: the version counts from now on, and a run that dies goes on from here."""
        version = state.version
        self._write(f"queue-{version:08d}.arrow", state.exchange.queue)
        content = {
            "version": version,
            "progress": state.progress,
            "exchange": state.exchange.state,
            "tally": state.tally,
            "files": {name: _digest(self._folder / name) for name in self._names(version)},
        }
        text = json.dumps(content)
        self._write(f"state-{version:08d}.json", f"{_digest_of(text.encode())}\n{text}\n".encode())

    def last(self) -> State | None:
        """The latest state that is whole; None if no update has been made.

        Raises:
            UserError: none of the states is whole.
        """
        versions = self._versions()
        for version in reversed(versions):
            try:
                return self._state(version)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is damaged (%s): taking the one before", self._file(version), first_line(error))
        if versions:
            raise UserError(f"none of the {len(versions)} states in {self._folder} is whole: the run cannot go on")
        return None

    def updates(self, after: int, until: int) -> Iterator[Update]:
        """The updates that made policy versions `after` + 1 to `until`.

        Raises:
            UserError: one of them is forgotten, missing or damaged.
        """
        first = min(self._versions(), default=after + 1)
        if after + 1 < first <= until:
            raise UserError(
                f"the journal {self._folder} begins with policy version {first}, and all checkpoints, or files of "
                f"experiences, that hold those before it are damaged or gone: put one back"
            )
        for version in range(after + 1, until + 1):
            try:
                state = self._state(version)
                payload = (self._folder / f"groups-{version:08d}.arrow").read_bytes()
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"the update that made policy version {version} cannot be made again, its groups or state in "
                    f"{self._folder} are damaged: {first_line(error)}"
                ) from error
            yield Update(version=version, payload=payload, progress=state.progress)

    def prune(self, version: int) -> None:
        """Forget updates up to `version`, which a checkpoint holds, but never the last few states."""
        versions = self._versions()
        for old in versions[:-KEPT]:
            if old <= version:
                self._file(old).unlink()  # first: without it the version does not count
                for name in self._names(old):
                    (self._folder / name).unlink(missing_ok=True)

    def _state(self, version: int) -> State:
        """A state of which every byte is right."""
        digest, text = self._file(version).read_text(encoding="utf-8").splitlines()
        if _digest_of(text.encode()) != digest:
            raise ValueError("its checksum is wrong")
        content = json.loads(text)
        for name, wanted in content["files"].items():
            if _digest(self._folder / name) != wanted:
                raise ValueError(f"the checksum of {name} is wrong")
        queue = (self._folder / f"queue-{version:08d}.arrow").read_bytes()
        return State(
            version=content["version"],
            progress=content["progress"],
            exchange=Snapshot(state=content["exchange"], queue=queue),
            tally=content["tally"],
        )

    def _file(self, version: int) -> Path:
        return self._folder / f"state-{version:08d}.json"

    @staticmethod
    def _names(version: int) -> tuple[str, str]:
        return f"groups-{version:08d}.arrow", f"queue-{version:08d}.arrow"

    def _versions(self) -> list[int]:
        return sorted(int(file.stem.rpartition("-")[2]) for file in self._folder.glob("state-*.json"))

    def _write(self, name: str, content: bytes) -> None:
        with _writing(self._folder), replacing(self._folder / name) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _writing(folder: Path) -> AbstractContextManager[None]:
    return written(f"the journal {folder}", f", then go on with tlpo train --resume {folder.parent}")


def _digest(file: Path) -> str:
    return _digest_of(file.read_bytes())


def _digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
