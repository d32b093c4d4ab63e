"""Ours against the alternative, in turns: other work on the machine disturbs both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison; seconds are the best of `ROUNDS`."""

    what: str
    ours: str
    alternative: str
    ours_s: float
    alternative_s: float

    def with_rate(self, amount: int, unit: str) -> Row:
        """The same, with how much of something ours does in a second."""
        return replace(self, ours=f"{self.ours}: {amount / self.ours_s:,.0f} {unit} a second")


def compared(what: str, ours: tuple[str, Callable[[], object]], alternative: tuple[str, Callable[[], object]]) -> Row:
    """Time both in turns."""
    best = {ours[0]: float("inf"), alternative[0]: float("inf")}
    for _, run in (ours, alternative):
        run()  # first calls load, compile and allocate
    for _ in range(ROUNDS):
        for name, run in (ours, alternative):
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    return Row(
        what=what, ours=ours[0], alternative=alternative[0], ours_s=best[ours[0]], alternative_s=best[alternative[0]]
    )
