"""Updates of a learner rank while its checkpoint is written to slow storage."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from learner.ray_shell import LearnerGroup
from tests.bench.compare import Figure
from tests.slow_storage import slow_storage
from tests.tiny import random_groups
from tlpo_ray.cluster.connect import connect
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import FlowConfig, LearnerConfig
from tlpo_ray.flow.records import encode
from tlpo_ray.quickstart.real_models import cached_real_model

STORAGE = 50e6
"""Speed of the storage, in bytes per second."""
GROUPS = 16
"""Groups of an update."""
ROUNDS = 8
"""Updates without a checkpoint, half of them before it and half after it."""


def beside_updates(model: Path) -> Iterator[Figure]:
    """Measure how many updates of SmolLM2 are made while its checkpoint is written at 50 MB/s."""
    published = cached_real_model("smollm2")
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ.update(slow_storage(folder, folder / "checkpoints", STORAGE))  # Ray's processes inherit it
        try:
            with connect(ClusterConfig(object_store_mib=200), {}):
                yield _measure(published, folder / "checkpoints")
        finally:
            os.environ.clear()
            os.environ.update(before)


def _measure(model: Path, root: Path) -> Figure:
    policy, cluster = ModelConfig(path=str(model), dtype="float32"), ClusterConfig(gpus_per_learner_rank=0)
    group = LearnerGroup(policy, LearnerConfig(lr=1e-5), FlowConfig(), cluster, seed=0)
    group.start()
    group.ready()
    payload = encode(random_groups(model, GROUPS))
    _update(group, payload)  # allocates the optimizer's state
    alone = [_update(group, payload) for _ in range(ROUNDS // 2)]
    began, num_updates, saved = time.perf_counter(), 0, None
    group.begin_save(root, 1)
    copied = time.perf_counter() - began
    while saved is None:
        _update(group, payload)
        num_updates, saved = num_updates + 1, group.poll_save()
    seconds = time.perf_counter() - began
    alone += [_update(group, payload) for _ in range(ROUNDS // 2)]
    group.close()
    size = sum(file.stat().st_size for file in root.rglob("*.safetensors"))
    update_s = statistics.median(alone)
    return Figure(
        what="updates of SmolLM2-135M-Instruct in float32, a single rank, while its checkpoint is written at 50 MB/s",
        value=(
            f"{num_updates} in {seconds:.1f} s, {num_updates * update_s / seconds:.2f} of those without a checkpoint "
            f"({update_s:.2f} s each); {size / 1e9:.2f} GB, copied in {copied:.2f} s; complete after "
            f"{saved.seconds:.1f} s"
        ),
    )


def _update(group: LearnerGroup, payload: bytes) -> float:
    """Make an update; returns its seconds."""
    began = time.perf_counter()
    group.begin_update(payload, 0.5)
    while group.poll_update(1.0) is None:
        pass
    return time.perf_counter() - began
