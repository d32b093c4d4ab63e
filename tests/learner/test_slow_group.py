"""A learner group makes an update however long it takes; a rank that is stopped is found by the lack of progress."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from learner.ray_shell import LearnerGroup
from tests.slow_engines import slow_engines
from tests.tiny import random_groups
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import FlowConfig, LearnerConfig
from tlpo_ray.errors import LearnerLostError
from tlpo_ray.flow.records import encode

pytestmark = pytest.mark.ray

DEADLINE_S, MICRO_BATCH_S = 5.0, 1.6
GROUPS, RANKS, STEPS = 32, 2, 2
PATIENCE_S = 300.0


@pytest.fixture
def group(tiny_model: Path, tmp_path: Path) -> Iterator[LearnerGroup]:
    """Return a group of DeepSpeed ranks that take their time for every micro-batch."""
    with slow_engines(tmp_path / "plugin", micro_batch_s=MICRO_BATCH_S):
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False)
        config = LearnerConfig(
            engine="slow", num_ranks=RANKS, zero_stage=1, micro_batch_size=1, num_iterations=STEPS, beta=0.0
        )
        flow, cluster = FlowConfig(update_deadline_s=DEADLINE_S), ClusterConfig(gpus_per_learner_rank=0)
        group = LearnerGroup(ModelConfig(path=str(tiny_model), dtype="float32"), config, flow, cluster, seed=0)
        try:
            group.start()
            group.ready()
            yield group
        finally:
            group.close()
            ray.shutdown()


def wait_for_update(group: LearnerGroup, payload: bytes, stop: int | None = None) -> None:
    """Make an update; with `stop`, stop that process once the update is under way."""
    began = time.monotonic()
    group.begin_update(payload, 0.0)
    while group.poll_update(1.0) is None:
        assert time.monotonic() - began < PATIENCE_S
        if stop is not None and time.monotonic() - began > 2 * MICRO_BATCH_S:
            os.kill(stop, signal.SIGSTOP)


def test_an_update_of_ten_deadlines_ends_without_a_restart_and_a_stopped_rank_is_found(
    group: LearnerGroup, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    payload = encode(random_groups(tiny_model, GROUPS))
    assert STEPS * GROUPS / RANKS * MICRO_BATCH_S > 10 * DEADLINE_S
    wait_for_update(group, payload)
    assert group.version == 1 and group.slow == {}
    assert caplog.text.count("the learner group has worked") == 1 and "s on an update and makes progress" in caplog.text

    stopped = ray.get(group._locations)[1].pid
    with pytest.raises(
        LearnerLostError,
        match=r"waited 5 s for progress of the learner group: an update; learner-1\.0 did not answer when asked for it",
    ):
        wait_for_update(group, payload, stop=stopped)
    group.restart()
    group.ready()
    assert (group.incarnation, group.version, group.slow) == (1, 0, {})
