"""A small run on the real stack, and what tests do to its processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.tiny import TEXT
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import checked_prompts
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.run.build import assembled
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import Progress, TrainSummary, train
from tlpo_ray.run.training import result_of

PROMPTS = 40
OURS = ("ray::RolloutProcess", "ray::LearnerProcess", "ray::Exchange")
"""Titles of a run's processes; those of Ray itself notice a minute later that their driver is gone."""
SAME = 1e-5
"""Largest difference of a parameter between two runs that made the same updates, float32."""

Setting = dict[str, object]
LOCAL: Setting = {"stack": "local", "rollout.engine": "transformers", "learner.engine": "torch"}


def write_prompts(file: Path) -> None:
    """The prompts of a small run."""
    languages = ("ko", "ko", "ja", "zh", "ar")
    rows = [
        {"id": f"p{i}", "language": languages[i % 5], "prompt": f"{TEXT[i % 5][: 8 + i % 9]}{i}"}
        for i in range(PROMPTS)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def run_config(model: Path, prompts: Path, folder: Path, **settings: object) -> RunConfig:
    """A small run on the quickstart's stack: 2 rollout actors, 2 learner ranks, ZeRO-1."""
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


def run(config: RunConfig, listener: Callable[[Progress], None] = lambda progress: None) -> TrainSummary:
    prompts = checked_prompts(config.data, config.detector, config.seed)
    with assembled(config, prompts) as parts, RunFolder(config) as folder:
        summary = train(config, parts, folder, listener)
        folder.write_result(result_of(config, summary, {}))
    return summary


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=SAME, rtol=0, err_msg=name)


def assert_same_run(folder: Path, undisturbed: tuple[Path, TrainSummary]) -> None:
    """Accounts, metrics and experiences of every update, each once."""
    result = json.loads((folder / "result.json").read_text())
    assert result["prompts"] == undisturbed[1].accounting.as_json()
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, undisturbed[1].updates + 1))
    assert learned(folder) == learned(undisturbed[0])


def learned(folder: Path) -> list[int]:
    """Prompts in the order in which they were learned from."""
    return [group.prompt_index for group in read_experiences(folder / "experiences")]


def kill_at(
    title: str, version: int, how: signal.Signals = signal.SIGKILL
) -> tuple[Callable[[Progress], None], list[int]]:
    """A listener that kills one process with that title once a policy version is reached, and whom it has killed."""
    killed: list[int] = []

    def listener(progress: Progress) -> None:
        if progress.version == version and not killed:
            killed.append(process_ids(title)[0])
            os.kill(killed[0], how)

    return listener, killed


def process_ids(title: str | tuple[str, ...]) -> list[int]:
    """Processes whose command line begins with `title`, or one of them, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command.startswith(title):
                found.append(int(entry.name))
    return sorted(found)


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
