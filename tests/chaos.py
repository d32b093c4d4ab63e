"""A run whose processes are killed again and again, the driver too, and that has to end as it should.

`make chaos` does it with the quickstart's toy world; a short one is a test (`tests/tlpo_ray/run/test_chaos.py`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from tests.small_run import process_ids
from tlpo_ray.flow.records import from_batch
from tlpo_ray.run.control import read_status

TLPO = str(Path(sys.executable).with_name("tlpo"))
TITLES = {
    "rollout actor": "ray::RolloutProcess",
    "learner rank": "ray::LearnerProcess",
    "exchange": "ray::ExchangeProcess",
}
DRIVER = "driver"
LOOK_S = 0.05
PATIENCE_S = 600.0
LEFT_S = 30.0
"""Seconds within which a run's processes end after their driver."""


@dataclass(slots=True)
class Record:
    """What was done to a run, and how it ended."""

    kills: list[tuple[float, str]] = field(default_factory=list)
    """(seconds since the run began, process kind) of every kill."""
    resumes: int = 0
    seconds: float = 0.0

    def counts(self) -> Counter[str]:
        return Counter(who for _, who in self.kills)


def disturb(
    command: Sequence[str],
    folder: Path,
    victims: Sequence[str],
    seed: int,
    pause_s: tuple[float, float],
    resumed: Sequence[str] = (),
) -> Record:
    """Run a command to its end, killing one victim after the other meanwhile; a killed driver's run is resumed.

    Args:
        command: begins the run in `folder`.
        victims: whom to kill, in this order.
        seed: of moments and choices.
        pause_s: least and most seconds between two kills, counted from when the run works again.
        resumed: settings that a resumed run gets.

    Raises:
        AssertionError: the run fails, or does not end.
    """
    chance, record, began = random.Random(seed), Record(), time.monotonic()
    waiting = list(victims)
    before = {title: set(process_ids(title)) for title in TITLES.values()}
    process = _start(command, folder)
    next_at = time.monotonic()
    seen = -1
    while process.poll() is None or process.returncode == -signal.SIGKILL:
        if process.poll() is not None:
            record.resumes += 1
            _wait_for_processes_to_end(before)
            process = _start([TLPO, "train", "--resume", str(folder), *resumed], folder)
        assert time.monotonic() - began < PATIENCE_S, "the run does not end"
        done = read_status(folder).get("prompts_done", -1)
        if done == seen or not waiting:  # only a run that has got on since the last kill is killed again
            next_at = time.monotonic() + chance.uniform(*pause_s)
        elif time.monotonic() >= next_at and (found := _pick_process(waiting[0], before, process.pid, chance)):
            os.kill(found, signal.SIGKILL)
            record.kills.append((round(time.monotonic() - began, 1), waiting.pop(0)))
            seen = done
        time.sleep(LOOK_S)
    errors = (folder.with_suffix(".log")).read_text(encoding="utf-8")
    assert process.returncode == 0, errors[-4000:]
    record.seconds = time.monotonic() - began
    return record


def _wait_for_processes_to_end(before: dict[str, set[int]]) -> None:
    """Wait until a run's processes have ended with their driver."""
    began = time.monotonic()
    while left := {one for title, known in before.items() for one in process_ids(title) if one not in known}:
        assert time.monotonic() - began < LEFT_S, f"processes {left} outlive their driver"
        time.sleep(LOOK_S)


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _pick_process(who: str, before: dict[str, set[int]], driver: int, chance: random.Random) -> int | None:
    if who == DRIVER:
        return driver
    found = [one for one in process_ids(TITLES[who]) if one not in before[TITLES[who]]]
    return chance.choice(found) if found else None


def mixed(counts: dict[str, int], seed: int) -> list[str]:
    """Return the given numbers of kills of each kind in random order."""
    victims = [who for who, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(victims)
    return victims


def groups_of_restarted_actors(folder: Path) -> int:
    """Count the groups learned from that come from a restarted rollout actor."""
    table = pq.read_table(sorted((folder / "experiences").glob("*.parquet")))
    return sum(not group.actor.endswith(".0") for group in from_batch(table))


def learned_twice(folder: Path) -> list[int]:
    """Return the prompts that were learned from more than once."""
    table = pq.read_table(sorted((folder / "experiences").glob("*.parquet")))
    return [index for index, count in Counter(table["prompt_index"].to_pylist()).items() if count > 1]


def report_lines(record: Record, folder: Path) -> Iterator[str]:
    """Yield what happened, for people."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    kills = ", ".join(f"{count} x {who}" for who, count in sorted(record.counts().items()))
    yield f"{len(record.kills)} kills ({kills}), {record.resumes} resumes, {record.seconds:.0f} s"
    yield f"prompts: {json.dumps(result['prompts'])}"
    later = groups_of_restarted_actors(folder)
    yield f"updates: {result['updates']}; groups of restarted actors that were learned from: {later}"


def main() -> None:
    """Run the quickstart's model with at least 20 kills, and hold it to the quickstart's rates."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    from rich.console import Console

    from tests.chaos_world import quickstart_config, scored

    console = Console(highlight=False, width=200)

    folder = Path("runs") / f"chaos-{seed}"
    config = quickstart_config(folder, seed)
    victims = mixed({"rollout actor": 11, "learner rank": 4, "exchange": 4, DRIVER: 2}, seed)
    record = disturb([TLPO, "train", str(config)], folder.resolve(), victims, seed, (0.2, 3.0))
    for line in report_lines(record, folder):
        console.print(line)
    assert len(record.kills) >= 20, f"the run was over after {len(record.kills)} kills"
    assert not learned_twice(folder)
    score = scored(folder / "model", seed)
    console.print(f"RPR {score.rpr:.4f}, accuracy {score.accuracy:.4f} ({score.answers:,} answers)")
    assert score.rpr >= 0.997 and score.accuracy >= 0.996, "worse than an undisturbed run"


if __name__ == "__main__":
    main()
