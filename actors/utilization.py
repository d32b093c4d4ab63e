"""Utilization of the rollout actors: the share of their time in which they had work."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class UtilizationMeter:
    """Measures the share of time in which workers had work, over all workers that count.

    A worker counts from its first work until `stop_counting`; while it restarts it counts as idle.

    Args:
        clock: Returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counting_since: dict[Hashable, float] = {}
        self._busy_since: dict[Hashable, float] = {}
        self._busy_s = self._total_s = 0.0
        """Seconds of work that has ended, and of workers that no longer count."""

    def begin_work(self, worker: Hashable) -> None:
        """Note that an idle worker has work from now on."""
        now = self._clock()
        self._counting_since.setdefault(worker, now)
        self._busy_since[worker] = now

    def end_work(self, worker: Hashable) -> None:
        """Note that a worker is idle from now on."""
        self._busy_s += self._clock() - self._busy_since.pop(worker)

    def stop_counting(self, worker: Hashable) -> None:
        """Note that an idle worker will never work again."""
        if worker in self._counting_since:
            self._total_s += self._clock() - self._counting_since.pop(worker)

    @property
    def share(self) -> float:
        """Share of the time with work, 0 to 1; 0 before the first work."""
        now = self._clock()
        busy = self._busy_s + sum(now - since for since in self._busy_since.values())
        total = self._total_s + sum(now - since for since in self._counting_since.values())
        return busy / total if total else 0.0
