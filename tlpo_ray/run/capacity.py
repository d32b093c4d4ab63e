"""How to divide GPUs between rollout actors and learner ranks, and what an epoch takes, from first principles.

Decoding is bound by memory: a step reads all weights and every sequence's keys and values. Learning is bound by
arithmetic: 2 FLOPs a weight and token forward, 4 backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

BYTES = 2
"""Of a bfloat16 weight."""
OPTIMIZER_BYTES = 16
"""A weight in training: bfloat16 weight and gradient, float32 master weight and two moments."""
FORWARD, BACKWARD = 2, 4
"""FLOPs a weight and token."""
LOOKAHEAD_TOKENS = 48
"""Of a confusion point: 16 candidates, 3 tokens each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A GPU, and what share of its peaks a program reaches. Assumed, not measured.

    Example: ``MACHINES["h100"]``
    """

    memory_gb: float
    bandwidth_gbs: float
    """Of its memory, GB/s."""
    tflops: float
    """bfloat16, dense."""
    network_gbs: float
    """From the learner to one rollout actor, GB/s."""
    decoding: float = 0.5
    """Share of the bandwidth that decoding reaches."""
    learning: float = 0.35
    """Share of the FLOPs that learning reaches."""


MACHINES = {
    "h100": Machine(memory_gb=80, bandwidth_gbs=3350, tflops=989, network_gbs=20),
    "h200": Machine(memory_gb=141, bandwidth_gbs=4800, tflops=989, network_gbs=20),
    "a100": Machine(memory_gb=80, bandwidth_gbs=2039, tflops=312, network_gbs=10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model's size.

    Example: Qwen3-8B: 8.2 billion weights, 36 layers of 8 key-value heads of 128.
    """

    weights: float
    kv_bytes: float
    """Keys and values of one token."""


MODELS = {
    "4b": Network(weights=4.0e9, kv_bytes=34 * 4 * 256 * 2 * BYTES),
    "8b": Network(weights=8.2e9, kv_bytes=36 * 8 * 128 * 2 * BYTES),
    "14b": Network(weights=14.8e9, kv_bytes=40 * 8 * 128 * 2 * BYTES),
    "32b": Network(weights=32.8e9, kv_bytes=64 * 8 * 128 * 2 * BYTES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An epoch.

    Example: 52,000 prompts of 60 tokens, answers of 300, 5 % of them confused after 150.
    """

    prompts: int = 52_000
    prompt_tokens: int = 60
    answer_tokens: int = 300
    confused: float = 0.05
    """Share of answers with a confusion point; they stop there, half-way on average."""
    groups_per_update: int = 8
    iterations: int = 2
    reference: bool = True
    """Whether there is a KL term."""
    recomputed: bool = True
    """Activation checkpointing."""
    concurrency: int = 128
    """Sequences an engine runs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to divide the GPUs."""

    rollout: int
    learner: int
    rollout_s: float
    learner_s: float
    """With the weights' way to the actors."""
    learner_gb: float
    """Of a learner GPU: its part of weights, optimizer and reference policy (ZeRO-3); no activations."""
    fits: bool

    def epoch_s(self, *, ahead: bool) -> float:
        """Seconds of an epoch: rollouts ahead of the learner, or in turns."""
        return max(self.rollout_s, self.learner_s) if ahead else self.rollout_s + self.learner_s

    @property
    def bound(self) -> Literal["rollouts", "learner"]:
        """What the other waits for."""
        return "rollouts" if self.rollout_s >= self.learner_s else "learner"


def splits(gpus: int, network: Network, machine: Machine, job: Job) -> Iterator[Split]:
    """Every way to divide the GPUs, the most rollout actors last."""
    groups = job.prompts * job.confused
    generated = job.prompts * job.answer_tokens * (1 - job.confused / 2) + groups * LOOKAHEAD_TOKENS
    context = job.prompt_tokens + job.answer_tokens / 2
    updates = groups / job.groups_per_update
    sync_s = updates * BYTES * network.weights / (machine.network_gbs * 1e9)
    for learner in range(gpus - 1, 0, -1):
        rollout = gpus - learner
        flops = groups * context * network.weights * _flops_a_weight_and_token(job)
        held = network.weights * (OPTIMIZER_BYTES + (BYTES if job.reference else 0)) / learner / 1e9
        yield Split(
            rollout=rollout,
            learner=learner,
            rollout_s=generated / (rollout * tokens_per_s(network, machine, job)),
            learner_s=flops / (learner * machine.tflops * 1e12 * machine.learning) + sync_s,
            learner_gb=held,
            fits=held < 0.8 * machine.memory_gb and BYTES * network.weights / 1e9 < 0.8 * machine.memory_gb,
        )


def tokens_per_s(network: Network, machine: Machine, job: Job) -> float:
    """Tokens that one rollout GPU generates in a second."""
    context = job.prompt_tokens + job.answer_tokens / 2
    read = BYTES * network.weights + job.concurrency * context * network.kv_bytes
    return job.concurrency * machine.bandwidth_gbs * 1e9 * machine.decoding / read


def _flops_a_weight_and_token(job: Job) -> float:
    again = FORWARD if job.recomputed else 0
    return job.iterations * (FORWARD + BACKWARD + again) + (FORWARD if job.reference else 0)
