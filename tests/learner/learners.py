"""A learner on the plain torch engine, and its weights, for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.weight_export import WeightExporter
from learner.worker import LearnerWorker, build_learner
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.flow.weights import Bucket, WeightUpdate, from_wire

CONTEXT = tuple(range(10, 22))
"""Context of the canary."""
MIB = 1 << 20


def make_learner(folder: Path, dtype: str = "float32", **changes: Any) -> LearnerWorker:
    config = LearnerConfig.model_validate({"engine": "torch", "lr": 1e-3, "warmup": 0.0} | changes)
    return build_learner(ModelConfig(path=str(folder), dtype=dtype), config, seed=0)


def export(worker: LearnerWorker, max_bytes: int = MIB) -> WeightUpdate:
    update = worker.export_weights(WeightExporter(max_bytes), CONTEXT)
    assert update is not None
    return update


def weights(worker: LearnerWorker) -> dict[str, Tensor]:
    """Return a copy of the policy's weights."""
    buckets: list[Bucket] = list(export(worker).deltas[-1].buckets)
    return {name: from_wire(array).clone() for bucket in buckets for name, array in bucket}


def equal(weights: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def save(worker: LearnerWorker, root: Path, keep_last: int) -> int:
    """Write a checkpoint and wait for it; returns the policy version of the oldest one that is kept."""
    worker.begin_save(root, keep_last)
    saved = worker.poll_save(wait=True)
    worker.engine.barrier()
    return saved.oldest if saved else worker.version
