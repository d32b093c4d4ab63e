"""Five runs that die, each of another cause, for somebody who has to name it from the run's folder alone.

    python -m tests.deaths INTO

leaves one folder per run, named by a letter, and `causes.txt`. Needs root, for a disk that becomes full.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

from tests.clusters import BIN, wait_until
from tests.small_run import process_ids, run_config, write_prompts
from tests.tiny import make_tiny_model
from tlpo_ray.config.load import dump_config
from tlpo_ray.run.control import read_status

MANY = 20
"""Copies of the prompts: the run must not end before it dies."""
STORE = 200 << 20
MORE_BYTES = 6 << 30
"""More memory than a run takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a run is made to die."""

    cause: str
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Callable[[], Mapping[str, str]] = dict
    act: Callable[[], object] | None = None
    """What is done to it after the first update."""


def stop_a_rank() -> None:
    """Stop a learner rank, as a hung driver of a device would."""
    os.kill(process_ids("ray::LearnerProcess")[0], signal.SIGSTOP)


def scarce_memory() -> dict[str, str]:
    """Return the environment of a Ray that ends processes when `MORE_BYTES` more are in use than now."""
    memory = psutil.virtual_memory()
    share = (memory.total - memory.available + MORE_BYTES) / memory.total
    return {"RAY_memory_usage_threshold": f"{share:.3f}"}


def take_memory() -> None:
    """Take memory of the node until the run's processes are ended, as a neighbour does."""
    taken = list[bytes]()
    while process_ids("ray::LearnerProcess"):
        if sum(map(len, taken)) < MORE_BYTES:
            taken.append(b"x" * (256 << 20))
        time.sleep(0.2)


HOPELESS = {"flow.max_restarts": 0}
DEATHS = (
    Death(
        cause="the node's memory ran out, and Ray ended processes",
        settings=HOPELESS,
        environment=scarce_memory,
        act=take_memory,
    ),
    Death(cause="the learner raised an error: its gradient is not finite", settings={"learner.lr": 1e30}),
    Death(
        cause="a learner rank hung in an update",
        settings={**HOPELESS, "flow.update_deadline_s": 10},
        act=stop_a_rank,
    ),
)


def train(model: Path, folder: Path, death: Death, **settings: object) -> None:
    """Begin a run, let it die, and keep its folder."""
    prompts = folder.with_suffix(".jsonl")
    write_prompts(prompts)
    prompts.write_text(prompts.read_text(encoding="utf-8") * MANY, encoding="utf-8")
    config = run_config(model, prompts, folder, **{"learner.groups_per_update": 4, **death.settings, **settings})
    file = folder.with_suffix(".yaml")
    file.write_text(dump_config(config), encoding="utf-8")
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "tlpo", "train", file], env={**os.environ, **death.environment()}, stdout=log, stderr=log
        )
        if death.act is not None:
            wait_until(lambda: read_status(folder).get("policy_version", 0) >= 1, "the first update")
            death.act()
        code = process.wait(timeout=300)
    assert code != 0, f"{folder} did not die"
    for suffix in (".jsonl", ".yaml", ".log"):
        folder.with_suffix(suffix).unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Yield a folder on a disk of a few MB, and leave its content in `folder`."""
    disk = folder.with_suffix(".disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        yield disk
        shutil.copytree(disk / "run", folder)
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


def lose_the_learners_node(model: Path, folder: Path) -> Death:
    """Let a run die whose learner is on a node that is lost."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": STORE})
    try:
        node = cluster.add_node(num_cpus=2, object_store_memory=STORE, resources={"rank": 1})
        death = Death(
            cause="the node of the learner was lost",
            settings={**HOPELESS, "cluster.address": cluster.address, "cluster.learner_resource": "rank"},
            act=lambda: cluster.remove_node(node, allow_graceful=False),
        )
        train(model, folder, death)
        return death
    finally:
        cluster.shutdown()


def main() -> None:
    """Let all of them die, in random order."""
    into = Path(sys.argv[1]).resolve()
    into.mkdir(parents=True)
    model = make_tiny_model(into / "model")
    letters = random.Random(time.time()).sample("abcde", 5)
    causes = dict[str, str]()
    for letter, death in zip(letters, DEATHS, strict=False):
        train(model, into / letter, death)
        causes[letter] = death.cause
    causes[letters[3]] = lose_the_learners_node(model, into / letters[3]).cause
    with small_disk(into / letters[4]) as disk:
        train(model, disk / "run", Death(cause=""), **{"checkpoint.every_updates": 1})
    causes[letters[4]] = "the disk of the run's folder became full"
    (into / "causes.txt").write_text("".join(f"{name}: {cause}\n" for name, cause in sorted(causes.items())))


if __name__ == "__main__":
    main()
