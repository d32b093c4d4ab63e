"""The experience queue: candidate groups wait here, by age, until the learner drains them.

It owns the bytes. A reference made by a rollout actor would die with that actor; a row of Arrow copied into this
process does not.
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
    version: int
    prompt_index: int
    row: pa.RecordBatch = field(compare=False)
    since: float = field(compare=False)
    """When it came, by the monotonic clock."""


class CandidateQueue:
    """Oldest policy version first, then the run's order of prompts.

    Bounded by who fills it: `Exchange` leases no prompts while `full`.

    Args:
        capacity: groups at which the queue is full.
        max_staleness: most policy versions a group may be behind the learner.
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
        """How long the group that came first has waited, in seconds; 0 when none waits."""
        return time.monotonic() - min(entry.since for entry in self._entries) if self._entries else 0.0

    def admit(self, batch: pa.RecordBatch, learner_version: int) -> list[int]:
        """Take in the groups that are fresh enough; prompt indices of those that are too old."""
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
        """Drop groups that have become too old; their prompt indices."""
        stale: list[int] = []
        while self._entries and learner_version - self._entries[0].version > self._max_staleness:
            stale.append(heapq.heappop(self._entries).prompt_index)
        return stale

    def prompts(self) -> list[int]:
        """Prompt indices of all groups that wait."""
        return [entry.prompt_index for entry in self._entries]

    def content(self) -> bytes:
        """All groups that wait, as an Arrow stream."""
        return _stream(sorted(self._entries))

    def take(self, n: int) -> tuple[list[int], bytes]:
        """At most n groups, the first in line: their prompt indices, and an Arrow stream of them."""
        entries = [heapq.heappop(self._entries) for _ in range(min(n, len(self._entries)))]
        return [entry.prompt_index for entry in entries], _stream(entries)

    def clear(self) -> list[int]:
        """Forget all groups; their prompt indices."""
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
