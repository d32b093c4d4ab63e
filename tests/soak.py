"""A long run with constant kills: how the memory of its driver, exchange and actors develops.

`make soak` takes half an hour; `python -m tests.soak MINUTES` less.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import ray

from tests.bench.book import keep
from tests.bench.compare import Figure
from tests.chaos import TITLES, TLPO, process_ids
from tests.chaos_world import quickstart_config

MINUTES = 30.0
PROMPT_ROUNDS = 12_000
"""Three million prompts: more than are done in that time."""
SAMPLE_S = 5.0
BETWEEN_S = {"rollout actor": 25.0, "learner rank": 180.0}
"""Between two kills of a kind, mean; the youngest dies. Driver, exchange and the oldest rollout actor live through it
all: it is their memory that is looked at. Of learner ranks none does, they start again together."""
LOOKED_AT = TITLES | {"cluster's head": str(Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server")}
"""Beside the driver."""
SETTLED = 0.2
"""Share of the time that is left out at the beginning."""


def main() -> None:
    """Disturb a run, then stop it, and print the slopes."""
    import subprocess

    from rich.console import Console

    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    console = Console(highlight=False, width=160)
    folder = Path("runs/soak").resolve()
    config = quickstart_config(folder, 0, PROMPT_ROUNDS, "flow.max_staleness=2", "flow.max_restarts=100000")
    chance, kills = random.Random(0), dict.fromkeys(BETWEEN_S, 0)
    samples: list[tuple[float, str, float]] = []
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([TLPO, "train", str(config)], stdout=log, stderr=log)
        while not (folder / "journal" / "state-00000001.json").exists():
            assert process.poll() is None, folder.with_suffix(".log").read_text()[-2000:]
            time.sleep(1)
        began = time.monotonic()
        due = {who: began + mean for who, mean in BETWEEN_S.items()}
        while (now := time.monotonic()) - began < 60 * minutes:
            assert process.poll() is None, folder.with_suffix(".log").read_text()[-2000:]
            samples += [(now - began, who, mib) for who, mib in _memory(process.pid)]
            for who, at in due.items():
                if now >= at and len(found := process_ids(TITLES[who])) > 1:
                    os.kill(found[-1], signal.SIGKILL)
                    kills[who] += 1
                    due[who] = now + chance.expovariate(1 / BETWEEN_S[who])
            time.sleep(SAMPLE_S)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    figures = [
        Figure(
            what=f"{minutes:g} minutes of the quickstart's world, rollouts up to 2 versions ahead",
            value=(
                f"{', '.join(f'{count} kills of a {who}' for who, count in kills.items())}; "
                f"{status['prompts_done']:,} prompts, {status['policy_version']} updates"
            ),
        ),
        *(_slope(samples, who) for who in ("driver", *LOOKED_AT)),
    ]
    for figure in figures:
        console.print(f"{figure.what}: {figure.value}")
    keep("soak", figures)


def _memory(driver: int) -> list[tuple[str, float]]:
    """Return the private memory of the oldest process of each kind in MiB."""
    oldest = [(who, process_ids(title)[:1]) for who, title in LOOKED_AT.items()]
    return [("driver", _own(driver)), *((who, _own(process)) for who, found in oldest for process in found)]


def _own(process: int) -> float:
    """Without what is mapped: the object store, and the file of prompts, whose pages stay while there is room."""
    try:
        resident, shared = map(int, Path(f"/proc/{process}/statm").read_text().split()[1:3])
    except OSError:  # just killed
        return 0.0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _slope(samples: list[tuple[float, str, float]], who: str) -> Figure:
    last = samples[-1][0]
    kept = np.array([(at, mib) for at, kind, mib in samples if kind == who and at > SETTLED * last and mib > 0])
    whole, half = (float(np.polyfit(*part.T, 1)[0]) * 3600 for part in (kept, kept[kept[:, 0] > last / 2]))
    return Figure(
        what=f"memory of the {who}" + (" (the oldest)" if who in BETWEEN_S else ""),
        value=f"{np.median(kept[:, 1]):,.0f} MiB, {whole:+.1f} MiB per hour; in the second half {half:+.1f}",
    )


if __name__ == "__main__":
    main()
