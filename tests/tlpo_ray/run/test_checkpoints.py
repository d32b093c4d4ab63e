"""A run continues while its checkpoints are written, and waits for storage only where two would pile up."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from learner.checkpoint import checkpoints, version_of
from learner.checkpoint_writer import SavedCheckpoint
from tests.slow_storage import has_compiler, slow_storage
from tests.small_run import LOCAL, assert_same_run, assert_same_weights, run, run_config
from tlpo_ray.config.load import dump_config
from tlpo_ray.config.run import CheckpointConfig
from tlpo_ray.run.checkpoints import Checkpoints

TLPO = str(Path(sys.executable).with_name("tlpo"))


class Storage:
    """A learner's checkpoints, each complete when it is waited for, or made so; and a journal that is pruned."""

    checkpoints = Path("checkpoints")

    def __init__(self, *, had_room: bool = True) -> None:
        self.writing: int | None = None
        self.begun: list[int] = []
        self.pruned: list[int] = []
        self.is_fast = False
        self._had_room = had_room

    def begin_save(self, folder: Path, keep_last: int) -> None:
        assert self.writing is None, "two at a time"
        self.writing = self.begun[-1]

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        if not wait and not self.is_fast:
            return None
        version, self.writing = self.writing, None
        assert version is not None
        return SavedCheckpoint(version=version, oldest=version - 1, seconds=3.0, had_room=self._had_room)

    def prune_journal(self, version: int) -> None:
        self.pruned.append(version)


def checkpoints_of(storage: Storage, version: int = 0) -> Any:
    fake: Any = storage
    return Checkpoints(fake, fake, CheckpointConfig(every_updates=5), version)


def update(made: Any, storage: Storage, version: int) -> None:
    """Do what the loop does after an update."""
    made.poll()
    if made.is_due(version):
        storage.begun.append(version)
        made.begin(version)


def test_one_is_due_at_every_interval_and_the_journal_is_pruned_once_it_is_complete() -> None:
    storage = Storage()
    made = checkpoints_of(storage, 7)
    for version in range(8, 14):
        update(made, storage, version)
    assert storage.begun == [10] and storage.pruned == [] and made.saved == 7
    storage.is_fast = True
    update(made, storage, 14)
    assert storage.pruned == [9] and (made.saved, made.seconds) == (10, 3.0)
    update(made, storage, 15)
    assert storage.begun == [10, 15]


def test_storage_that_is_too_slow_is_waited_for_and_named(caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage()
    made = checkpoints_of(storage)
    with caplog.at_level(logging.WARNING):
        for version in range(1, 11):
            update(made, storage, version)
    assert storage.begun == [5, 10] and storage.pruned == [4]
    assert caplog.messages == [
        "the checkpoint of update 5 was still being written when the next one was due: the run waited 0 s for storage; "
        "raise checkpoint.every_updates"
    ]


def test_what_a_lost_process_was_writing_is_due_again() -> None:
    storage = Storage()
    made = checkpoints_of(storage)
    for version in range(1, 6):
        update(made, storage, version)
    made.forget()
    storage.writing = None
    update(made, storage, 6)
    assert storage.begun == [5, 6]
    for version in range(7, 11):
        update(made, storage, version)
    assert storage.begun == [5, 6, 10]


def test_short_memory_is_named(caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage(had_room=False)
    made = checkpoints_of(storage)
    with caplog.at_level(logging.WARNING):
        update(made, storage, 5)
        made.poll(wait=True)
    assert caplog.messages[0].startswith("memory for a copy of the training state was short: the run waited while")


@pytest.mark.skipif(not has_compiler(), reason="no C compiler")
def test_a_run_on_slow_storage_is_the_same_run(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {**LOCAL, "checkpoint.every_updates": 1, "learner.groups_per_update": 4}
    undisturbed = tmp_path / "undisturbed", run(run_config(tiny_model, prompts, tmp_path / "undisturbed", **settings))
    file, folder = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(dump_config(run_config(tiny_model, prompts, folder, **settings)), encoding="utf-8")
    state = checkpoints(undisturbed[0] / "checkpoints")[-1]
    size = sum(path.stat().st_size for path in state.iterdir())
    slow = slow_storage(tmp_path, folder / "checkpoints", bytes_per_second=size / 2)
    done = subprocess.run([TLPO, "train", str(file)], capture_output=True, text=True, env=os.environ | slow)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, undisturbed)
    assert_same_weights(folder, undisturbed[0])
    assert version_of(checkpoints(folder / "checkpoints")[-1]) == undisturbed[1].updates
    assert not list((folder / "checkpoints").glob("partial-*"))
