"""Runs every benchmark, or those named, and prints a line for each ratio."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
os.environ.setdefault("DS_ACCELERATOR", "cpu")


def main() -> None:
    from rich.console import Console

    from tests.bench import control, detect, job, learner, rollout, weights
    from tests.bench.compare import Row
    from tests.tiny import make_tiny_model

    measures = {
        "flow": (control.fleets,), "learner": (learner.update,), "weights": (weights.deltas,),
        "rollout": (rollout.whole, rollout.sampling, rollout.logprobs), "job": (job.whole,),
        "detect": (detect.verdicts, detect.counts, detect.streams, detect.imports),
    }  # fmt: skip
    console = Console(highlight=False)
    unknown = [name for name in sys.argv[1:] if name not in measures]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: there are {', '.join(measures)}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread a process\n")
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder))
        for measure in (one for name in sys.argv[1:] or measures for one in measures[name]):
            with console.status(measure.__doc__ or ""):
                measured = measure(model)
                rows = [measured] if isinstance(measured, Row) else list(measured)
            for row in rows:
                if isinstance(row, str):
                    console.print(f"        {row}")
                    continue
                console.print(f"[bold]{row.alternative_s / row.ours_s:5.1f}x[/bold]  {row.what}")
                console.print(f"        {row.ours_s:7.3f} s  {row.ours}", style="dim")
                console.print(f"        {row.alternative_s:7.3f} s  {row.alternative}", style="dim")


if __name__ == "__main__":
    main()
