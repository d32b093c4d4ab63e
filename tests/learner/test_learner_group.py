"""The learner group in a real Ray: two DeepSpeed ranks driven as one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from learner.checkpoint import checkpoints
from learner.ray_shell import LearnerGroup
from learner.report import UpdateReport
from learner.weight_export import WeightExporter
from learner.worker import build_learner
from tests.tiny import random_groups
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import FlowConfig, LearnerConfig
from tlpo_ray.errors import ModelError, TlpoError
from tlpo_ray.flow.records import encode
from tlpo_ray.flow.weights import from_wire

pytestmark = pytest.mark.ray

CONTEXT = tuple(range(10, 22))
SETTINGS: dict[str, Any] = {"lr": 1e-4, "warmup": 0.0, "micro_batch_size": 2}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False)
    yield
    ray.shutdown()


def start_group(folder: Path) -> LearnerGroup:
    config = LearnerConfig.model_validate(SETTINGS | {"num_ranks": 2, "zero_stage": 3})
    cluster = ClusterConfig(gpus_per_learner_rank=0)
    group = LearnerGroup(ModelConfig(path=str(folder), dtype="float32"), config, FlowConfig(), cluster, seed=0)
    group.start()
    return group


def update(group: LearnerGroup, payload: bytes) -> UpdateReport:
    group.begin_update(payload, 0.0)
    while (report := group.poll_update(1.0)) is None:
        pass
    return report


def exported(group: LearnerGroup) -> dict[str, torch.Tensor]:
    buckets = ray.get(list(group.export_weights(CONTEXT).deltas[-1].buckets))
    return {name: from_wire(array.copy()) for bucket in buckets for name, array in bucket}


def test_a_group_learns_as_one_process_does_and_a_dead_rank_ends_it(tiny_model: Path, tmp_path: Path) -> None:
    groups = random_groups(tiny_model, 8)
    alone = build_learner(
        ModelConfig(path=str(tiny_model), dtype="float32"),
        LearnerConfig.model_validate(SETTINGS | {"engine": "torch"}),
        seed=0,
    )
    group = start_group(tiny_model)
    try:
        group.ready()
        expected, report = alone.update(groups, 0.0), update(group, encode(groups))
        assert report.version == group.version == 1
        metrics, expected_metrics = report.metrics(), expected.metrics()
        assert metrics.pop("update_time") > 0 and expected_metrics.pop("update_time") > 0
        assert metrics == pytest.approx(expected_metrics, rel=1e-3, abs=1e-5)
        weights = exported(group)
        expected_weights = alone.export_weights(WeightExporter(1 << 20), CONTEXT)
        assert expected_weights is not None
        for bucket in expected_weights.deltas[-1].buckets:
            for name, array in bucket:
                torch.testing.assert_close(weights.pop(name), from_wire(array), rtol=0, atol=1e-5)
        assert not weights

        group.begin_save(tmp_path, 2)
        update(group, encode(groups))
        saved = group.poll_save(wait=True)
        assert saved is not None and saved.version == saved.oldest == 1
        assert group.poll_save() is None
        assert group.load(checkpoints(tmp_path)[0]) == group.version == 1
        group.export(tmp_path / "model")
        assert (tmp_path / "model" / "model.safetensors").exists()

        group.begin_update(encode(groups * 50), 0.0)
        ray.kill(group._ranks[1])
        began = time.monotonic()
        with pytest.raises(TlpoError, match="a learner rank failed during an update"):
            while group.poll_update(1.0) is None:
                assert time.monotonic() - began < 60
        group.restart()
        group.ready()
        assert (group.incarnation, group.version, group.learning) == (1, 0, False)
        assert group.restore(tmp_path, until=5) == group.version == 1
    finally:
        group.close()


def test_a_missing_model_is_reported_in_one_line(tmp_path: Path) -> None:
    group = start_group(tmp_path / "missing")
    try:
        with pytest.raises(ModelError, match="missing' cannot be loaded"):
            group.ready()
    finally:
        group.close()
