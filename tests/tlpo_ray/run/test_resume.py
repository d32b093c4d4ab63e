"""A run that was killed or stopped is resumed with `tlpo train --resume` and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.small_run import LOCAL, assert_same_run, run, run_config, weights
from tlpo_ray.config.load import dump_config
from tlpo_ray.run.loop import TrainSummary

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]
TLPO = str(Path(sys.executable).with_name("tlpo"))
PATIENCE_S = 240.0
COPIES = 6
"""Copies of the prompts: enough that the run can be killed ten times before it ends."""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([TLPO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begin(model: Path, prompts: Path, folder: Path, **settings: object) -> subprocess.Popen[str]:
    """Start `tlpo train` in a process of its own."""
    file = folder.with_suffix(".yaml")
    file.write_text(dump_config(run_config(model, prompts, folder, **settings)), encoding="utf-8")
    return start("train", str(file))


def until(folder: Path, version: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has journalled the groups of an update, or has ended."""
    began = time.monotonic()
    while not (folder / "journal" / f"groups-{version:08d}.arrow").exists() and process.poll() is None:
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.01)


def updates(folder: Path) -> int:
    return len(list((folder / "journal").glob("state-*.json")))


def finished(folder: Path, *arguments: str) -> str:
    """Resume a run to its end; returns what it printed."""
    process = start("train", "--resume", str(folder), *arguments)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def test_killed_at_ten_random_moments_a_run_ends_with_exactly_the_same_weights(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    many, moments, folder = tmp_path / "many.jsonl", random.Random(0), tmp_path / "run"
    many.write_text(prompts.read_text() * COPIES)
    undisturbed = tmp_path / "undisturbed", run(run_config(tiny_model, many, tmp_path / "undisturbed", **LOCAL))
    process = begin(tiny_model, many, folder, **LOCAL, **{"checkpoint.every_updates": 2})
    for kill in range(10):
        # The last update cannot be waited for ten times: most moments lie around its beginning or before.
        until(folder, 1 + kill * undisturbed[1].updates // 12, process)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        process.communicate()
        if (folder / "result.json").exists():
            break
        process = start("train", "--resume", str(folder))
    else:
        process.kill()
        process.communicate()
    if not (folder / "result.json").exists():
        finished(folder)
    assert kill >= 5, "the run was over too soon to have been killed often"
    found, expected = weights(folder), weights(undisturbed[0])
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert_same_run(folder, undisturbed)


def test_a_stopped_run_says_how_to_resume(local: Undisturbed, tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(tiny_model, prompts, folder, **LOCAL)
    until(folder, 2, process)
    os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < 30
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1] == (
        f"tlpo: stopped by SIGTERM; nothing is lost, resume with: tlpo train --resume {folder}"
    )
    finished(folder)
    assert_same_run(folder, local)


def refused(folder: Path, *arguments: str) -> str:
    process = start("train", "--resume", str(folder), *arguments)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    (line,) = err.splitlines()
    return line


def test_what_cannot_be_resumed_is_refused_in_one_line(
    tiny_model: Path, prompts: Path, tmp_path: Path, local: Undisturbed
) -> None:
    folder, mine = tmp_path / "run", tmp_path / "mine.jsonl"
    mine.write_bytes(prompts.read_bytes())
    process = begin(tiny_model, mine, folder, **LOCAL)
    until(folder, 2, process)
    process.kill()
    process.communicate()
    assert "is complete, see result.json in it" in refused(local[0])
    assert "does not hold a run to resume" in refused(tmp_path)
    assert "learner.lr is 0.0001" in refused(folder, "learner.lr=1e-3")
    assert "no setting" in refused(folder, "learner.lrr=1e-3") or "lrr" in refused(folder, "learner.lrr=1e-3")
    mine.write_text(mine.read_text().replace("0", "1"))
    assert "the prompts differ from those that the run was started with" in refused(folder)
