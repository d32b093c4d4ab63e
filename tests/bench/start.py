"""The start of a run, and the whole quickstart, against an earlier commit of this project beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.before import BEFORE, ROOT, checkout
from tests.bench.compare import Row

ROUNDS = 3
NOT_A_USERS = {"PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"}
"""Environment variables of benchmarks and tests that a user of the quickstart does not set."""
POLL_S = 0.1
"""Time between two looks at a quickstart, in seconds."""
OPENED = "config.yaml"
"""File of a run folder that both commits write when the fleet is about to sample the first answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """One quickstart: wall time and CPU time of all its processes from the command on, in seconds."""

    first_s: float
    """Until the first token is sampled."""
    first_cpu_s: float
    end_s: float
    """Until the report is written."""
    end_cpu_s: float


def quickstart(model: Path) -> Iterator[Row]:
    """The toy's quickstart, its model cached, from the command to the first sampled token and to the end."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trees = {"ours": ROOT, "before": checkout(BEFORE, folder / "before")}
        for name, tree in trees.items():  # trains the toy model and writes the modules' byte code, where it is missing
            _run(tree, folder / f"warm-up-{name}", "data.limit=64")
        found: dict[str, list[Times]] = {name: [] for name in trees}
        for number in range(ROUNDS):
            for name, tree in trees.items():
                found[name].append(_run(tree, folder / f"{name}-{number}"))
    for what, field in (
        ("to the first sampled token", "first_s"),
        ("to the first sampled token, CPU time of all processes", "first_cpu_s"),
        ("to the report", "end_s"),
        ("to the report, CPU time of all processes", "end_cpu_s"),
    ):
        ours, before = (tuple(getattr(times, field) for times in found[name]) for name in trees)
        yield Row(
            what=f"from `tlpo quickstart` {what}", ours="this release", alternative=f"commit {BEFORE}",
            ours_s=ours, alternative_s=before,
        )  # fmt: skip


def _run(tree: Path, folder: Path, *settings: str) -> Times:
    """Run the quickstart of a checkout and return its times."""
    main = "tlpo_ray.__main__" if (tree / "tlpo_ray" / "__main__.py").exists() else "tlpo_ray.cli"
    code = f"import sys; sys.argv[0] = 'tlpo'; from {main} import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if name not in NOT_A_USERS}
    environment |= {"PYTHONPATH": str(tree), "RAY_worker_niceness": "0"}  # other work disturbs all processes alike
    command = [sys.executable, "-c", code, "quickstart", f"folder={folder}", *settings]
    log, first, cpu_s = folder.with_suffix(".log"), (0.0, 0.0), dict[int, float]()
    began = time.monotonic()
    with (
        log.open("wb") as output,
        # In a folder without modules of ours: Python looks there first.
        subprocess.Popen(command, env=environment, cwd=folder.parent, stdout=output, stderr=output) as process,
    ):
        while process.poll() is None:
            cpu_s |= _cpu_s(process.pid)
            if not any(first) and (folder / OPENED).exists():
                first = time.monotonic() - began, sum(cpu_s.values())
            time.sleep(POLL_S)
    end_s = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"the quickstart of {tree} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return Times(first_s=first[0], first_cpu_s=first[1], end_s=end_s, end_cpu_s=sum(cpu_s.values()))


def _cpu_s(pid: int) -> dict[int, float]:
    """Return the CPU time so far of a process and of each of its descendants, by process id.

    Not from the system's accounts of children that have ended: Ray does not wait for its workers.
    """
    found = {}
    with suppress(psutil.NoSuchProcess):
        driver = psutil.Process(pid)
        for process in (driver, *driver.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
    return found
