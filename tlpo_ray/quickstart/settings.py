"""Settings of a quickstart run: its stack, its preset and its size."""

from __future__ import annotations

from tlpo_ray.evaluation.sampling import on_gpu

ROUNDS = 40
"""How often the run asks each question of the toy world."""
SAMPLES = 8
"""Answers sampled to each question before and after training, at the run's temperature."""
LOCAL = ("stack=local", "rollout.engine=transformers", "learner.engine=torch")
"""Overrides that run everything in one process. The local stack trains the same weights as the distributed one."""
STACKS = {"distributed": (), "local": LOCAL}
"""Overrides by name of the stack."""


def quickstart_preset() -> str:
    """Return the name of the preset for this machine: vLLM's CUDA build runs only on GPUs."""
    return "quickstart-gpu" if on_gpu() else "quickstart"
