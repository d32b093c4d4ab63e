"""Peak memory of a learner rank, against an earlier commit of this project beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.before import BEFORE, ROOT, checkout
from tests.bench.compare import Figure
from tlpo_ray.quickstart.real_models import cached_real_model

POLL_S = 0.02
"""Time between two looks at a process, in seconds."""
UPDATES = """
import sys
from pathlib import Path
from learner.worker import build_learner
from tests.tiny import random_groups
from tlpo_ray.config.run import LearnerConfig, ModelConfig

dtype = sys.argv[2]
model, config = ModelConfig(path=sys.argv[1], dtype=dtype), LearnerConfig(lr=1e-5)
if hasattr(config, "for_dtype"):
    config = config.for_dtype(dtype)
worker = build_learner(model, config, seed=0)
for progress in (0.0, 0.5):
    worker.update(random_groups(Path(sys.argv[1]), 8), progress)
"""
"""Two updates of a single rank with the default settings."""


def learner_rank(model: Path) -> Iterator[Figure]:
    """Measure the peak memory of two updates of SmolLM2, without pages of files, which other processes share."""
    published = cached_real_model("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        before = checkout(BEFORE, Path(folder) / "before")
        for dtype in ("float32", "bfloat16"):
            ours, theirs = (_peak_mib(tree, published, dtype) for tree in (ROOT, before))
            yield Figure(
                what=f"peak memory of a single learner rank, SmolLM2-135M-Instruct in {dtype}, defaults",
                value=f"{ours:,.0f} MiB, commit {BEFORE} {theirs:,.0f} MiB: {ours / theirs:.2f} of it",
            )


def _peak_mib(tree: Path, model: Path, dtype: str) -> float:
    """Return the peak of the memory that belongs to a process alone, in MiB."""
    environment = os.environ | {"PYTHONPATH": str(tree), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", UPDATES, str(model), dtype]
    peak_kib = 0
    with subprocess.Popen(command, env=environment, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        status = Path(f"/proc/{run.pid}/status")
        while run.poll() is None:
            if found := re.search(r"RssAnon:\s+(\d+)", status.read_text(encoding="utf-8")):
                peak_kib = max(peak_kib, int(found[1]))
            time.sleep(POLL_S)
        assert run.stderr is not None
        if run.returncode:
            raise RuntimeError(f"the updates of {tree} failed:\n{run.stderr.read().decode()[-2000:]}")
    return peak_kib / 1024
