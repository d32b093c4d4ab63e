"""Runs every benchmark and prints one table.

Each measures ours and the alternative in turns and takes the best of each, so that other work on the machine disturbs
both alike.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison; seconds are the best of `ROUNDS`."""

    what: str
    ours: str
    alternative: str
    ours_s: float
    alternative_s: float


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


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    from tests.bench import flow, learner, rollout
    from tests.tiny import make_tiny_model

    console = Console(highlight=False)
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, 1 thread a process, best of {ROUNDS}")
    for heading in ("what", "ours", "alternative", "ours, s", "alternative, s", "ratio"):
        table.add_column(heading, justify="right" if heading.endswith(("s", "ratio")) and heading != "ours" else "left")
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder))
        for measure in (flow.exchange, learner.update, rollout.sampling, rollout.logprobs):
            with console.status(measure.__doc__ or ""):
                row = measure(model)
            table.add_row(
                row.what,
                row.ours,
                row.alternative,
                f"{row.ours_s:.3f}",
                f"{row.alternative_s:.3f}",
                f"{row.alternative_s / row.ours_s:.1f}x",
            )
    console.print(table)


if __name__ == "__main__":
    main()
