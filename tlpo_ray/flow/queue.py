"""The experience queue: candidate groups wait here, ordered by age, until the learner takes them.

The groups are kept in this process's own memory: a reference made by a rollout actor would be lost together with that
actor.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from tlpo_ray.flow.records import SCHEMA


@dataclass(order=True, frozen=True, slots=True)
class _Entry:
    """One candidate group; entries are ordered by policy version, then by prompt."""

    version: int
    """Policy version that sampled the answer."""
    prompt_index: int
    row: pa.RecordBatch = field(compare=False)
    """The group, one row long."""
    since: float = field(compare=False)
    """Monotonic time at which the group was admitted, in seconds."""


class CandidateQueue:
    """Priority queue of candidate groups: oldest policy version first, then the run's order of prompts.

    The queue itself refuses nothing for lack of space. `Exchange` limits it, for staleness above 0: it leases no
    prompts while the queue is `full`, so that only the batches under way can exceed the capacity.

    Args:
        capacity: Number of groups at which the queue is full.
        max_staleness: Maximum number of policy versions by which a group may be older than the learner's.
    """

    def __init__(self, capacity: int, max_staleness: int) -> None:
        self._capacity = capacity
        self._max_staleness = max_staleness
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether producers have to wait."""
        return len(self._entries) >= self._capacity

    @property
    def oldest_s(self) -> float:
        """Seconds that the group admitted first has waited; 0 if the queue is empty."""
        return time.monotonic() - min(entry.since for entry in self._entries) if self._entries else 0.0

    def admit(self, batch: pa.RecordBatch, learner_version: int) -> list[int]:
        """Add the groups that are fresh enough, and return the prompt indices of those that are too old.

        Args:
            batch: Candidate groups, one per row.
            learner_version: The learner's policy version.
        """
        now, stale = time.monotonic(), list[int]()
        versions = batch.column("sampling_version").to_pylist()
        indices = batch.column("prompt_index").to_pylist()
        for position, (version, index) in enumerate(zip(versions, indices, strict=True)):
            if learner_version - version > self._max_staleness:
                stale.append(index)
            else:
                heapq.heappush(self._entries, _Entry(version, index, batch.slice(position, 1), now))
        return stale

    def expire(self, learner_version: int) -> list[int]:
        """Drop the groups that are too old for `learner_version`, and return their prompt indices."""
        stale: list[int] = []
        while self._entries and learner_version - self._entries[0].version > self._max_staleness:
            stale.append(heapq.heappop(self._entries).prompt_index)
        return stale

    def prompts(self) -> list[int]:
        """Return the prompt indices of all queued groups."""
        return [entry.prompt_index for entry in self._entries]

    def content(self) -> bytes:
        """Return all queued groups as an Arrow stream."""
        return _stream(sorted(self._entries))

    def take(self, n: int) -> tuple[list[int], bytes]:
        """Remove the first `n` groups, or fewer if there are fewer; return their prompt indices and an Arrow stream."""
        entries = [heapq.heappop(self._entries) for _ in range(min(n, len(self._entries)))]
        return [entry.prompt_index for entry in entries], _stream(entries)

    def clear(self) -> list[int]:
        """Remove all groups, and return their prompt indices."""
        indices = self.prompts()
        self._entries.clear()
        return indices


def _stream(entries: Sequence[_Entry]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        if entries:
            writer.write_table(pa.Table.from_batches([entry.row for entry in entries]).combine_chunks())
    content: bytes = sink.getvalue().to_pybytes()
    return content
