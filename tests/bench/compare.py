"""Ours against the alternative, in turns: other work on the machine disturbs both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison, measured in rounds."""

    what: str
    ours: str
    alternative: str
    ours_s: tuple[float, ...]
    """Seconds, a round each."""
    alternative_s: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as long the alternative takes, a round each, smallest first."""
        return sorted(theirs / ours for ours, theirs in zip(self.ours_s, self.alternative_s, strict=True))

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    def with_rate(self, amount: int, unit: str) -> Row:
        """The same, with the rate of ours."""
        return replace(self, ours=f"{self.ours}: {amount / min(self.ours_s):,.0f} {unit}/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured without an alternative."""

    what: str
    value: str


Measured = Row | Figure


def compared(what: str, ours: tuple[str, Callable[[], object]], alternative: tuple[str, Callable[[], object]]) -> Row:
    """Time both in turns, after a call each that loads, compiles and allocates."""
    ours[1]()
    alternative[1]()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for kept, (_, run) in zip(seconds, (ours, alternative), strict=True):
            began = time.perf_counter()
            run()
            kept.append(time.perf_counter() - began)
    return Row(
        what=what, ours=ours[0], alternative=alternative[0], ours_s=tuple(seconds[0]), alternative_s=tuple(seconds[1])
    )
