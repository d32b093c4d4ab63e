"""Checkpoints that are written while the run continues: a copy in memory, and a thread that brings it to storage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from torch import Tensor

from learner import checkpoint
from learner.memory import has_spare_memory
from tlpo_ray.files import disk_errors

SHARD_BYTES = 1 << 28
"""Size at which a checkpoint file is closed and the next one begun, in bytes: memory is freed file by file."""
POLL_S = 0.5
"""Interval in seconds at which a wait for the thread looks whether it has advanced."""

Shard = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint that is complete."""

    version: int
    """Policy version that it holds."""
    oldest: int
    """Policy version of the oldest checkpoint that is kept."""
    seconds: float
    """Time from the beginning of its snapshot until it was complete."""
    had_room: bool
    """Whether memory was enough for the whole snapshot, so that training continued while it was written."""


class CheckpointWriter:
    """Writes checkpoints, one at a time, by a thread of its own.

    safetensors, hashing and system calls release the interpreter's lock: training continues while the thread works.

    Args:
        has_room: Whether the snapshot may take memory for another file. While it may not, the caller of `begin` waits
            until what it has handed over is written.
    """

    def __init__(self, has_room: Callable[[], bool] = has_spare_memory) -> None:
        self._has_room = has_room
        self._result: Future[SavedCheckpoint | None] | None = None
        """Result of the thread; None while no checkpoint is being written."""
        self._written = 0
        """Files that the thread has written."""

    def begin(
        self, root: Path, version: int, layout: str, tensors: Iterable[tuple[str, Tensor]], keep_last: int,
        note: Callable[[], None],
    ) -> None:  # fmt: skip
        """Take a snapshot of a training state, and start to write it; returns as soon as the state may change.

        Args:
            root: Folder of all checkpoints of a run.
            version: Policy version.
            layout: `TrainEngine.layout` of the engine whose state it is.
            tensors: `TrainEngine.state_tensors`, consumed here.
            keep_last: Number of checkpoints to keep, this one included.
            note: Called when a wait for room has advanced.

        Raises:
            ResourceError: The folder cannot be written.
        """
        assert self._result is None, "the checkpoint before has to be waited for"
        began = time.monotonic()
        with disk_errors(_what(root)):
            checkpoint.begin(root, version)
        self._result, self._written = Future(), 0
        shards = SimpleQueue[Shard | None]()
        is_whole = had_room = True

        def write() -> SavedCheckpoint | None:
            with disk_errors(_what(root)):
                for number, shard in enumerate(iter(shards.get, None)):
                    checkpoint.write_shard(checkpoint.partial_folder(root, version), number, shard)
                    shard.clear()
                    self._written = number + 1
                if not is_whole:
                    return None
                checkpoint.commit(root, version, layout, keep_last)
                oldest = checkpoint.version_of(checkpoint.checkpoints(root)[0])
            seconds = time.monotonic() - began
            return SavedCheckpoint(version=version, oldest=oldest, seconds=seconds, had_room=had_room)

        # A daemon: storage that does not answer any more must not keep a process from ending.
        Thread(target=_run, args=(write, self._result), name="checkpoint", daemon=True).start()
        try:
            for number, shard in enumerate(_snapshot(tensors), 1):
                shards.put(shard)
                if not self._has_room():
                    had_room = False
                    self._wait(note, until=number)
        except BaseException:
            is_whole, self._result = False, None
            raise
        finally:
            shards.put(None)

    def poll(self) -> SavedCheckpoint | None:
        """Return a checkpoint that has become complete since the last call; None if there is none.

        Raises:
            ResourceError: It cannot be written.
        """
        if self._result is None or not self._result.done():
            return None
        result, self._result = self._result, None
        return result.result()

    def finish(self, note: Callable[[], None]) -> SavedCheckpoint | None:
        """Wait for the checkpoint that is being written, if there is one; see `poll`.

        Args:
            note: Called whenever the wait has advanced.
        """
        self._wait(note)
        return self.poll()

    def _wait(self, note: Callable[[], None], until: float = math.inf) -> None:
        """Wait until the thread has written `until` files, or has ended; call `note` when it has written one."""
        seen = self._written
        while self._result is not None and self._written < until and not self._result.done():
            wait([self._result], timeout=POLL_S)
            if self._written != seen:
                seen = self._written
                note()


def _what(root: Path) -> str:
    return f"a checkpoint below {root}"


def _run(write: Callable[[], SavedCheckpoint | None], result: Future[SavedCheckpoint | None]) -> None:
    try:
        result.set_result(write())
    except BaseException as error:  # whoever polls raises it
        result.set_exception(error)


def _snapshot(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Shard]:
    """Yield copies of tensors in the host's memory, as many together as go into a file."""
    shard: Shard = {}
    for name, tensor in tensors:
        # Cloned: the next update changes the tensor, and the engine may reuse its memory for the next one.
        shard[name] = tensor.detach().cpu().contiguous().clone()
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD_BYTES:
            yield shard
            shard = {}
    yield shard
