"""How to divide GPUs between rollout actors and learner ranks, and how long an epoch takes, from first principles.

Decoding is bound by memory bandwidth: each step reads all weights and the keys and values of every sequence. Learning
is bound by arithmetic: 2 FLOPs per weight and token forward, 4 backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from tlpo_ray.errors import UserError

WEIGHT_BYTES = 2
"""Bytes of a bfloat16 weight."""
TRAINING_BYTES = 16
"""Bytes per weight in training: bfloat16 weight and gradient, float32 master weight and two moments."""
FORWARD, BACKWARD = 2, 4
"""FLOPs per weight and token."""
LOOKAHEAD_TOKENS = 48
"""Tokens generated per confusion point: 16 candidates with 3 tokens each."""
USABLE_MEMORY = 0.8
"""Share of a GPU's memory for weights and optimizer; the rest is left for activations and the KV cache."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A type of GPU, and the share of its peaks that a program reaches. Assumed, not measured.

    Example: ``GPUS["h100"]``
    """

    memory_gb: float
    bandwidth_gbs: float
    """Memory bandwidth, GB/s."""
    tflops: float
    """Dense bfloat16 arithmetic, TFLOP/s."""
    network_gbs: float
    """Bandwidth from the learner to one rollout actor, GB/s."""
    decoding: float = 0.5
    """Share of the memory bandwidth that decoding reaches."""
    learning: float = 0.35
    """Share of the peak FLOP/s that learning reaches."""


GPUS = {
    "h100": Gpu(memory_gb=80, bandwidth_gbs=3350, tflops=989, network_gbs=20),
    "h200": Gpu(memory_gb=141, bandwidth_gbs=4800, tflops=989, network_gbs=20),
    "a100": Gpu(memory_gb=80, bandwidth_gbs=2039, tflops=312, network_gbs=10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Size of a model.

    Example: Qwen3-8B has 8.2 billion weights, and 36 layers with 8 key-value heads of 128.
    """

    weights: float
    kv_bytes: float
    """Bytes of one token's keys and values."""


MODELS = {
    "4b": ModelSize(weights=4.0e9, kv_bytes=34 * 4 * 256 * 2 * WEIGHT_BYTES),
    "8b": ModelSize(weights=8.2e9, kv_bytes=36 * 8 * 128 * 2 * WEIGHT_BYTES),
    "14b": ModelSize(weights=14.8e9, kv_bytes=40 * 8 * 128 * 2 * WEIGHT_BYTES),
    "32b": ModelSize(weights=32.8e9, kv_bytes=64 * 8 * 128 * 2 * WEIGHT_BYTES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of one epoch.

    Example: 52,000 prompts of 60 tokens with answers of 300 tokens, 5 % of which are confused after 150 tokens.
    """

    prompts: int = 52_000
    prompt_tokens: int = 60
    answer_tokens: int = 300
    confused: float = 0.05
    """Share of answers with a confusion point, where they stop: half-way on average."""
    groups_per_update: int = 8
    iterations: int = 2
    """Optimizer steps per update."""
    reference: bool = True
    """Whether the loss has a KL term, which needs a reference policy."""
    recomputed: bool = True
    """Whether activations are recomputed (activation checkpointing)."""
    concurrency: int = 128
    """Sequences that an engine runs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to divide the GPUs, and the time that each side needs for an epoch."""

    rollout: int
    """GPUs with a rollout actor."""
    learner: int
    """GPUs with a learner rank."""
    rollout_s: float
    learner_s: float
    """Seconds of the updates, including the transfer of weights to the actors."""
    learner_gb: float
    """A learner GPU's share of weights, optimizer and reference policy (ZeRO-3), in GB; without activations."""
    fits: bool
    """Whether both sides fit into memory."""

    def epoch_s(self, *, overlapped: bool) -> float:
        """Return the seconds of an epoch in which rollouts overlap with updates, or alternate with them."""
        return max(self.rollout_s, self.learner_s) if overlapped else self.rollout_s + self.learner_s

    @property
    def bottleneck(self) -> Literal["rollouts", "learner"]:
        """The slower side, which the other one waits for."""
        return "rollouts" if self.rollout_s >= self.learner_s else "learner"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """Every way to divide the GPUs, and the fastest one that fits."""

    model: ModelSize
    gpu: Gpu
    workload: Workload
    splits: tuple[Split, ...]
    """All splits, in the order of growing numbers of rollout actors."""
    best: Split
    """The split with the fastest epoch among those that fit, rollouts overlapping with updates."""
    tokens_per_s: float
    """Tokens that one rollout GPU generates per second."""

    def share_of_epoch(self, hours: float) -> float:
        """Return the share of an epoch, at most 1, that the best split completes within some hours."""
        return min(1.0, hours * 3600 / self.best.epoch_s(overlapped=True))


def plan_split(model: str, gpus: int, gpu: str, workload: Workload | None = None) -> SplitPlan:
    """Return how to divide a number of GPUs.

    Args:
        model: A key of `MODELS`.
        gpus: Number of GPUs.
        gpu: A key of `GPUS`.
        workload: The work of an epoch; None is the paper's.

    Raises:
        UserError: The model or GPU is unknown, there are too few GPUs, or no split fits.
    """
    size, kind = _known("--model", model, MODELS), _known("--gpu", gpu, GPUS)
    workload = workload or Workload()
    if gpus < 2:
        raise UserError(f"--gpus {gpus}: rollouts and learner need one GPU each, so give at least 2")
    all_splits = tuple(splits(gpus, size, kind, workload))
    fitting = [split for split in all_splits if split.fits]
    if not fitting:
        least = min(split.learner_gb for split in all_splits)
        raise UserError(
            f"--gpus {gpus}: weights and optimizer of {model} need {least:.0f} GB on each of {gpus - 1} learner GPUs, "
            f"but one {gpu} has {kind.memory_gb:.0f} GB: use more GPUs, or learner.lora"
        )
    return SplitPlan(
        model=size,
        gpu=kind,
        workload=workload,
        splits=all_splits,
        best=min(fitting, key=lambda split: split.epoch_s(overlapped=True)),
        tokens_per_s=tokens_per_s(size, kind, workload),
    )


def _known(option: str, name: str, table: dict[str, T]) -> T:
    if name not in table:
        raise UserError(f"{option} {name}: expected one of {', '.join(table)}")
    return table[name]


def splits(gpus: int, model: ModelSize, gpu: Gpu, workload: Workload) -> Iterator[Split]:
    """Yield every way to divide the GPUs, with growing numbers of rollout actors."""
    groups = workload.prompts * workload.confused
    answers = workload.prompts * workload.answer_tokens * (1 - workload.confused / 2)
    generated = answers + groups * LOOKAHEAD_TOKENS
    context = workload.prompt_tokens + workload.answer_tokens / 2
    updates = groups / workload.groups_per_update
    sync_s = updates * WEIGHT_BYTES * model.weights / (gpu.network_gbs * 1e9)
    for learner in range(gpus - 1, 0, -1):
        rollout = gpus - learner
        flops = groups * context * model.weights * _flops_per_weight_and_token(workload)
        bytes_per_weight = TRAINING_BYTES + (WEIGHT_BYTES if workload.reference else 0)
        learner_gb = model.weights * bytes_per_weight / learner / 1e9
        rollout_gb = WEIGHT_BYTES * model.weights / 1e9
        yield Split(
            rollout=rollout,
            learner=learner,
            rollout_s=generated / (rollout * tokens_per_s(model, gpu, workload)),
            learner_s=flops / (learner * gpu.tflops * 1e12 * gpu.learning) + sync_s,
            learner_gb=learner_gb,
            fits=max(learner_gb, rollout_gb) < USABLE_MEMORY * gpu.memory_gb,
        )


def tokens_per_s(model: ModelSize, gpu: Gpu, workload: Workload) -> float:
    """Return the tokens that one rollout GPU generates per second."""
    context = workload.prompt_tokens + workload.answer_tokens / 2
    bytes_read = WEIGHT_BYTES * model.weights + workload.concurrency * context * model.kv_bytes
    return workload.concurrency * gpu.bandwidth_gbs * 1e9 * gpu.decoding / bytes_read


def _flops_per_weight_and_token(workload: Workload) -> float:
    recomputation = FORWARD if workload.recomputed else 0
    return workload.iterations * (FORWARD + BACKWARD + recomputation) + (FORWARD if workload.reference else 0)
