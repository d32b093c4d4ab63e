"""Checkpoints that are written while training continues."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from learner import checkpoint
from learner.checkpoint import checkpoints
from learner.checkpoint_writer import CheckpointWriter
from learner.worker import LearnerWorker
from tests.learner.learners import equal, make_learner, save, weights
from tests.learner.test_checkpoint import full_disk
from tests.tiny import random_groups
from tlpo_ray.errors import ResourceError


class Gate:
    """Storage that takes nothing before it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        write = checkpoint.write_shard

        def gated(folder: Path, number: int, tensors: dict[str, Tensor]) -> None:
            self.reached.set()
            assert self.opened.wait(60)
            write(folder, number, tensors)

        monkeypatch.setattr(checkpoint, "write_shard", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


@pytest.fixture
def worker(tiny_model: Path) -> LearnerWorker:
    worker = make_learner(tiny_model)
    worker.update(random_groups(tiny_model, 4), 0.0)
    return worker


def test_training_goes_on_and_the_checkpoint_is_of_the_moment_when_it_was_begun(
    worker: LearnerWorker, gate: Gate, tiny_model: Path, tmp_path: Path
) -> None:
    before = weights(worker)
    worker.begin_save(tmp_path, keep_last=2)
    assert gate.reached.wait(60)
    worker.update(random_groups(tiny_model, 4, seed=1), 0.5)
    assert worker.poll_save() is None and not checkpoints(tmp_path)
    gate.opened.set()
    saved = worker.poll_save(wait=True)
    assert saved is not None and (saved.version, saved.oldest, saved.had_room) == (1, 1, True)
    assert worker.poll_save() is None, "each is reported once"
    resumed = make_learner(tiny_model)
    assert resumed.restore(tmp_path, until=9) == 1
    assert equal(weights(resumed), before) and not equal(weights(worker), before)


def test_without_spare_memory_the_snapshot_waits_for_storage(gate: Gate, tmp_path: Path) -> None:
    state = [(f"weight/{number}", torch.full((4,), float(number))) for number in range(3)]
    threading.Timer(0.5, gate.opened.set).start()
    notes: list[bool] = []
    writer = CheckpointWriter(has_room=lambda: False)
    writer.begin(tmp_path, 7, "all weights", iter(state), 1, lambda: notes.append(gate.opened.is_set()))
    assert notes == [True], "a wait that advances is progress"
    saved = writer.finish(lambda: None)
    assert saved is not None and (saved.version, saved.had_room) == (7, False)
    with checkpoint.TensorReader(checkpoints(tmp_path)[0]) as tensors:
        assert all(torch.equal(tensors.read(name), tensor) for name, tensor in state)


def test_a_disk_that_becomes_full_is_reported_when_the_checkpoint_is_asked_for(
    worker: LearnerWorker, gate: Gate, tmp_path: Path
) -> None:
    worker.begin_save(tmp_path, keep_last=1)
    with full_disk(), pytest.raises(ResourceError, match=r"^cannot write a checkpoint below [^\n]*$"):
        gate.opened.set()
        worker.poll_save(wait=True)
    assert not checkpoints(tmp_path)
    assert save(worker, tmp_path, keep_last=1) == 1, "the next one, on a disk with room again"


def test_storage_that_vanishes_is_reported_in_one_line(worker: LearnerWorker, gate: Gate, tmp_path: Path) -> None:
    root = tmp_path / "mounted" / "checkpoints"
    worker.begin_save(root, keep_last=1)
    shutil.rmtree(tmp_path / "mounted")
    gate.opened.set()
    with pytest.raises(ResourceError, match=r"^cannot write a checkpoint below [^\n]*$"):
        worker.poll_save(wait=True)


def test_a_snapshot_that_fails_leaves_no_checkpoint(worker: LearnerWorker, tmp_path: Path) -> None:
    def state() -> Iterator[tuple[str, Tensor]]:
        yield "weight/one", torch.zeros(4)
        raise RuntimeError("Connection closed by peer")

    writer = CheckpointWriter()
    with pytest.raises(RuntimeError, match="closed by peer"):
        writer.begin(tmp_path, 1, "all weights", state(), 1, lambda: None)
    assert writer.finish(lambda: None) is None
    assert not checkpoints(tmp_path)
