"""A rollout actor on a slow engine finishes its batches however long they take; one that is stopped is replaced."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from tests.slow_engines import slow_engines
from tests.small_run import process_ids, run_config
from tlpo_ray.data.load import load_prompts
from tlpo_ray.run.build import build_components
from tlpo_ray.run.components import Components

pytestmark = pytest.mark.ray

DEADLINE_S = 3
"""Of a batch, and of a heartbeat."""
FORWARD_S = 0.25
PATIENCE_S = 300.0


def advance_until(components: Components, is_reached: Callable[[], bool]) -> None:
    """Roll out until a condition holds."""
    began = time.monotonic()
    while not is_reached():
        assert time.monotonic() - began < PATIENCE_S
        components.fleet.advance(1.0)


def test_a_batch_of_ten_deadlines_ends_without_a_restart_and_a_stopped_actor_is_replaced(
    tiny_model: Path, prompts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "rollout.engine": "slow", "rollout.num_actors": 1, "rollout.lease_size": 16, "rollout.concurrency": 2,
        "rollout.num_candidates": 4, "learner.engine": "torch", "learner.num_ranks": 1,
        "flow.rollout_deadline_s": DEADLINE_S, "flow.heartbeat_s": DEADLINE_S,
    }  # fmt: skip
    caplog.set_level(logging.WARNING)
    with slow_engines(tmp_path / "plugin", forward_s=FORWARD_S):
        config = run_config(tiny_model, prompts, tmp_path / "run", **settings)
        asked = load_prompts(config.data, config.detector, config.seed)
        with build_components(config, asked) as components:
            fleet, status = components.fleet, components.exchange.status
            began = time.monotonic()
            advance_until(components, lambda: bool(fleet.slow))
            assert "on a batch of 16 prompts and makes progress (" in fleet.slow["rollout-0.0"]
            leased = status().accounting.leased
            advance_until(components, lambda: status().accounting.leased < leased)
            assert time.monotonic() - began > 10 * DEADLINE_S
            assert fleet.num_restarts == 0 and not fleet.states.get("suspect")
            assert caplog.text.count("s on a batch of 16 prompts and makes progress") == 1, "once per batch"

            held = status().accounting.leased
            (process,) = [info.pid for info in ray.get(fleet._pool.processes)]  # type: ignore[attr-defined]
            os.kill(process, signal.SIGSTOP)
            advance_until(components, lambda: fleet.num_restarts == 1)
            assert f"in time; {held} prompts are leased again, in batches of half the size; if it was" in caplog.text
            advance_until(components, lambda: bool(fleet.slow))
            assert fleet.slow["rollout-0.1"].split(" on a batch of ")[1].startswith(f"{held // 2} prompts ")
            assert process not in process_ids("ray::RolloutProcess")
