"""A small run on the real stack, and helpers that disturb its processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.tiny import TEXT
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.progress import TrainingProgress
from tlpo_ray.run.build import build_components
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import Listener, TrainSummary, train
from tlpo_ray.run.result import run_result

PROMPTS = 40
TEST_PROCESS = "TLPO_TEST_PROCESS"
"""Environment variable that marks all processes that a test process starts, directly or not."""
OURS = ("ray::RolloutProcess", "ray::LearnerProcess", "ray::Exchange")
"""Titles of a run's processes; those of Ray itself notice a minute later that their driver is gone."""
SAME = 1e-5
"""Largest difference of a parameter between two runs that made the same updates, float32."""

Setting = dict[str, object]
LOCAL: Setting = {"stack": "local", "rollout.engine": "transformers", "learner.engine": "torch"}


def write_prompts(file: Path) -> None:
    """Write the prompts of a small run."""
    languages = ("ko", "ko", "ja", "zh", "ar")
    rows = [
        {"id": f"p{i}", "language": languages[i % 5], "prompt": f"{TEXT[i % 5][: 8 + i % 9]}{i}"}
        for i in range(PROMPTS)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def run_config(model: Path, prompts: Path, folder: Path, **settings: object) -> RunConfig:
    """Return the configuration of a small run: 2 rollout actors, 2 learner ranks, ZeRO-1."""
    return load_config(
        "quickstart",
        [
            f"model.path={model}",
            f"data.prompts={prompts}",
            f"folder={folder}",
            "rollout.max_new_tokens=12",
            "rollout.lease_size=8",
            "learner.lr=1e-4",
            "learner.lr_min=1e-5",
            *(f"{key}={value}" for key, value in settings.items()),
        ],
    )


def run(config: RunConfig, listener: Listener = lambda progress: None) -> TrainSummary:
    prompts = load_prompts(config.data, config.detector, config.seed)
    with build_components(config, prompts) as components, RunFolder(config) as folder:
        summary = train(config, components, folder, listener)
        folder.write_result(run_result(config, summary, {}).to_json())
    return summary


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=SAME, rtol=0, err_msg=name)


def assert_same_run(folder: Path, undisturbed: tuple[Path, TrainSummary]) -> None:
    """Compare accounting, metrics and experiences with those of an undisturbed run."""
    result = json.loads((folder / "result.json").read_text())
    assert result["prompts"] == undisturbed[1].accounting.as_json()
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, undisturbed[1].updates + 1))
    assert learned(folder) == learned(undisturbed[0])


def learned(folder: Path) -> list[int]:
    """Return the prompts in the order in which they were learned from."""
    return [group.prompt_index for group in read_experiences(folder / "experiences")]


def kill_at(title: str, version: int, how: signal.Signals = signal.SIGKILL) -> tuple[Listener, list[int]]:
    """Return a listener that kills one process once a policy version is reached, and the list of killed processes."""
    killed: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        if progress.version == version and not killed:
            killed.append(process_ids(title)[0])
            os.kill(killed[0], how)

    return listener, killed


def process_ids(title: str | tuple[str, ...]) -> list[int]:
    """Return the ids of this test process's processes whose command line begins with a title, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if command.startswith(title) and _test_process(entry) == os.environ.get(TEST_PROCESS):
                    found.append(int(entry.name))
    return sorted(found)


def _test_process(process: Path) -> str | None:
    """Return the test process that a process descends from, also if it is an orphan."""
    while process.name != "0":
        for line in (process / "environ").read_bytes().split(b"\0"):
            name, _, value = line.decode(errors="replace").partition("=")
            if name == TEST_PROCESS:
                return value
        # A long title may have overwritten its environment: some of Ray's agents, whose parent lives.
        process = process.parent / (process / "stat").read_text().rpartition(")")[2].split()[1]
    return None


@contextmanager
def leaves_no_process(title: str | tuple[str, ...], within_s: float = 0.0) -> Iterator[None]:
    before = set(process_ids(title))
    try:
        yield
    finally:
        began = time.monotonic()
        while set(process_ids(title)) - before and time.monotonic() - began < within_s:
            time.sleep(0.2)
        assert not set(process_ids(title)) - before
