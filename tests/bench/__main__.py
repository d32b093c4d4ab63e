"""Runs every benchmark, or those named; prints their ratios and figures and writes them into BENCHMARKS.md."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def main() -> None:
    import torch
    from rich.console import Console

    from tests.bench import (
        book,
        checkpoints,
        control,
        decoding,
        detect,
        flow,
        gpu,
        job,
        learner,
        memory,
        rollout,
        setup,
        start,
        sync,
        weights,
        yields,
    )
    from tests.tiny import make_tiny_model

    benchmarks = {
        "setup": (setup.installers,),
        "learner": (learner.update,), "memory": (memory.learner_rank,),
        "rollout": (rollout.complete, rollout.sampling, rollout.logprobs),
        "decoding": (decoding.rules,),
        "weights": (weights.deltas,), "sync": (sync.to_actors,),
        "checkpoint": (checkpoints.beside_updates,), "yield": (yields.truncation,),
        "flow": (flow.exchange, control.queue, control.fleets, flow.many_prompts),
        "scale": (control.scaled,), "start": (start.quickstart,), "job": (job.whole,), "ahead": (job.ahead,),
        "detect": (detect.verdicts, detect.counts, detect.streams, detect.imports),
    }  # fmt: skip
    if torch.cuda.is_available():
        benchmarks = {"gpu": (gpu.update, gpu.sampling)}
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    console = Console(highlight=False)
    unknown = [name for name in sys.argv[1:] if name not in benchmarks]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: there are {', '.join(benchmarks)}")
    console.print(f"{book.machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder) / "model")
        for name in sys.argv[1:] or benchmarks:
            console.print(f"[bold]{name}[/bold]")
            measured = []
            for measure in benchmarks[name]:
                with console.status(measure.__doc__ or ""):
                    for one in measure(model):
                        measured.append(one)
                        console.print(book.line(one))
            book.keep(name, measured)
    console.print(f"\nwritten into {book.BOOK.name}")


if __name__ == "__main__":
    main()
