"""What a run's loop counts, and how fast it goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tlpo_ray.flow.records import RolloutStats

PHASES = ("collect", "update", "publish", "export")
PACE_S = 60.0
"""Over how long a pace is taken."""


@dataclass(slots=True)
class Tally:
    """What the loop has counted so far."""

    sampled: int = 0
    clean: int = 0
    tokens_generated: int = 0
    tokens_discarded: int = 0
    tokens_clean: int = 0
    by_language: dict[str, list[int]] = field(default_factory=dict)
    """Answers sampled, and those of them without confusion."""
    kv_use: float = 0.0
    """Largest share of an engine's KV cache that was in use, since the last update."""
    earlier: dict[str, float] = field(default_factory=dict)
    """Restarts and canary differences of the run's earlier lives."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    def count(self, lots: Sequence[RolloutStats]) -> None:
        for lot in lots:
            self.sampled += lot.sampled
            self.clean += lot.clean
            self.tokens_generated += lot.tokens_generated
            self.tokens_discarded += lot.tokens_discarded
            self.tokens_clean += lot.tokens_clean
            self.kv_use = max(self.kv_use, lot.kv_use)
            for language, (sampled, clean) in lot.by_language.items():
                before = self.by_language.setdefault(language, [0, 0])
                before[0] += sampled
                before[1] += clean

    def as_json(self) -> dict[str, Any]:
        """For `Tally(**…)`."""
        return asdict(self)

    @property
    def rpr(self) -> float:
        """Response pass rate of the answers sampled so far (Eq. 8); 1 before the first."""
        return self.clean / self.sampled if self.sampled else 1.0

    @property
    def confusion_rates(self) -> dict[str, float]:
        """By language: answers with confusion / answers sampled so far."""
        return {language: 1 - clean / sampled for language, (sampled, clean) in sorted(self.by_language.items())}


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the wall time of its block to `seconds[name]`."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began


class Pace:
    """How fast something rises that is looked at now and then: over the last minute.

    Args:
        clock: seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()

    def note(self, total: float) -> float:
        """Take in where it is now; by how much it rises a second, 0 at first."""
        now = self._clock()
        self._seen.append((now, total))
        while len(self._seen) > 2 and now - self._seen[1][0] >= PACE_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (total - before) / (now - began) if now > began else 0.0
