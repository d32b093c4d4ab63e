"""Runs every benchmark and prints one table."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    from tests.bench import flow, learner, rollout
    from tests.bench.compare import ROUNDS
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
