"""Settings of a quickstart run: its stack, its preset and its size."""

from __future__ import annotations

from collections.abc import Sequence

from tlpo_ray.evaluation.sampling import on_gpu

ROUNDS = 40
"""How often the toy's run asks each question of its world."""
LOCAL = ("stack=local", "rollout.engine=transformers", "learner.engine=torch")
"""Overrides that run everything in one process. The local stack trains the same weights as the distributed one."""
STACKS = {"distributed": (), "local": LOCAL}
"""Overrides by name of the stack."""
ON_ONE_GPU = (
    "rollout.num_actors=1", "cluster.gpus_per_rollout_actor=0.5", "cluster.gpus_per_learner_rank=0.5",
)  # fmt: skip
"""Overrides that let a rollout actor and a learner rank share one GPU."""


def quickstart_preset() -> str:
    """Return the name of the toy's preset for this machine: vLLM's CUDA build runs only on GPUs."""
    return "quickstart-gpu" if on_gpu() else "quickstart"


def real_model_settings(name: str) -> tuple[str, Sequence[str]]:
    """Return the preset of a real model, by the model's name, and overrides of it for this machine."""
    return f"quickstart-{name}", ON_ONE_GPU if on_gpu() else ()
