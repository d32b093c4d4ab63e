"""Engines that are slow on purpose, installed as plugins that the processes of a cluster find, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tlpo_ray.config.plugins import plugins

MODULE = "slow_engines_plugin"
SOURCE = '''
import os
import time

from actors.hf_engine import TransformersEngine
from learner.deepspeed_engine import DeepSpeedEngine

FORWARD_S = {forward_s}
MICRO_BATCH_S = {micro_batch_s}


class SlowRolloutEngine(TransformersEngine):
    """Takes its time for every forward pass."""

    def _forward(self, *inputs):
        time.sleep(FORWARD_S)
        return super()._forward(*inputs)


class SlowTrainer(DeepSpeedEngine):
    """Takes its time for every micro-batch."""

    def step(self, losses, lr):
        def slowed(loss):
            def slow(policy):
                time.sleep(MICRO_BATCH_S)
                return loss(policy)

            return slow

        return super().step([slowed(loss) for loss in losses], lr)
'''
ENTRY_POINTS = f"""
[tlpo_ray.rollout_engines]
slow = {MODULE}:SlowRolloutEngine

[tlpo_ray.trainers]
slow = {MODULE}:SlowTrainer
"""


@contextmanager
def slow_engines(folder: Path, *, forward_s: float = 0.0, micro_batch_s: float = 0.0) -> Iterator[None]:
    """Install a package with a rollout engine and a trainer called `slow`; Ray has to be started inside the block.

    Args:
        folder: Folder to install it into.
        forward_s: Time that each forward pass of the rollout engine takes longer, in seconds.
        micro_batch_s: Time that each micro-batch of the trainer takes longer, in seconds.
    """
    installed = folder / "slow_engines-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-engines\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / f"{MODULE}.py").write_text(SOURCE.format(forward_s=forward_s, micro_batch_s=micro_batch_s))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        plugins.cache_clear()
        yield
    sys.modules.pop(MODULE, None)
    plugins.cache_clear()
