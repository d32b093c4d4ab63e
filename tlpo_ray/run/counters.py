"""What a run counts, and how fast it goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tlpo_ray.flow.records import RolloutStats

PHASES = ("collect", "update", "publish", "export")
"""Phases of the loop whose seconds are counted; `publish` is the export of the weights for a sync."""
RATE_WINDOW_S = 60.0
"""Window of a rate, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """Restarts of a run's processes, and the largest canary difference."""

    actor_restarts: int = 0
    learner_restarts: int = 0
    exchange_restarts: int = 0
    canary: float = 0.0
    """Largest difference between learner and actors after a weight sync, in nats."""

    def __add__(self, other: Incidents) -> Incidents:
        return Incidents(
            actor_restarts=self.actor_restarts + other.actor_restarts,
            learner_restarts=self.learner_restarts + other.learner_restarts,
            exchange_restarts=self.exchange_restarts + other.exchange_restarts,
            canary=max(self.canary, other.canary),
        )


@dataclass(slots=True)
class RunCounters:
    """Everything that the loop counts. It is part of the journal, so that a resumed run continues the counts."""

    rollouts: RolloutStats = field(default_factory=RolloutStats)
    """Sum over all finished batches; its `kv_cache_usage` is the maximum since the last update."""
    earlier: Incidents = field(default_factory=Incidents)
    """Incidents before the run was last resumed."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Wall time by phase."""

    def to_json(self, incidents: Incidents) -> dict[str, Any]:
        """Return the counters as JSON values, to be read by `from_json`.

        Args:
            incidents: All incidents of the run so far, which become `earlier` when it is resumed.
        """
        return {**asdict(self.rollouts), "earlier": asdict(incidents), "seconds": dict(self.seconds)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunCounters:
        """Return the counters that `to_json`, of this or an earlier release, was called on."""
        earlier = dict(values["earlier"])
        earlier["actor_restarts"] = earlier.pop("restarts", earlier.get("actor_restarts", 0))
        counts = {
            name: values[name] for name in ("sampled", "clean", "tokens_generated", "tokens_discarded", "tokens_clean")
        }
        return cls(
            rollouts=RolloutStats(
                **counts,
                by_language={name: (sampled, clean) for name, (sampled, clean) in values["by_language"].items()},
                confused_in=dict(values.get("confused_in", {})),
                kv_cache_usage=values.get("kv_cache_usage", values.get("kv_use", 0.0)),
            ),
            earlier=Incidents(**earlier),
            seconds=dict(values["seconds"]),
        )


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of the block to `seconds[name]`."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began


class RateMeter:
    """Rate of change of a counter over the last minute.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._readings: deque[tuple[float, float]] = deque()

    def update(self, total: float) -> float:
        """Record the counter's value; returns its rate per second, 0 at the first reading."""
        now = self._clock()
        self._readings.append((now, total))
        while len(self._readings) > 2 and now - self._readings[1][0] >= RATE_WINDOW_S:
            self._readings.popleft()
        began, before = self._readings[0]
        return (total - before) / (now - began) if now > began else 0.0
