"""Runs every benchmark and prints a line for each."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def main() -> None:
    from rich.console import Console

    from tests.bench import detect, flow, learner, rollout
    from tests.bench.compare import ROUNDS, Row
    from tests.tiny import make_tiny_model

    console = Console(highlight=False)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread a process, best of {ROUNDS}\n")
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder))
        for measure in (
            flow.exchange, learner.update, rollout.sampling, rollout.logprobs,
            detect.verdicts, detect.counts, detect.streams, detect.imports,
        ):  # fmt: skip
            with console.status(measure.__doc__ or ""):
                measured = measure(model)
                rows = [measured] if isinstance(measured, Row) else list(measured)
            for row in rows:
                console.print(f"[bold]{row.alternative_s / row.ours_s:5.1f}x[/bold]  {row.what}")
                console.print(f"        {row.ours_s:7.3f} s  {row.ours}", style="dim")
                console.print(f"        {row.alternative_s:7.3f} s  {row.alternative}", style="dim")


if __name__ == "__main__":
    main()
