"""Memory of a learner rank: whether it fits the device (GPU, or the machine's RAM without one), and what is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn

from learner.engine import DTYPES, policy_dtype, trainer_class
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import GIB, LearnerConfig
from tlpo_ray.errors import ResourceError

ACTIVATION_SHARE = 0.2
"""Share of a device that a suggested change of settings leaves free for activations."""
SPARE_SHARE = 0.1
"""Share of the machine's memory that copies of the training state leave free."""
CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux keeps how much memory a container may use, and uses."""


def static_bytes(num_parameters: int, num_trained: int, model: ModelConfig, config: LearnerConfig) -> int:
    """Return the bytes of one rank's weights, gradients, optimizer state and reference policy, without activations.

    Args:
        num_parameters: Parameters of the policy.
        num_trained: How many of them are trained: all, or those of an adapter.
        model: Gives the dtype of the model.
        config: Gives trainer, sharding, and whether there is a reference policy.
    """
    zero_stage = config.zero_stage if trainer_class(config).supports_zero_stages else 0
    model_size, weight_size = DTYPES[model.dtype].itemsize, policy_dtype(model, config).itemsize
    # AdamW's moments are 2 · 4 bytes. Float32 master weights add 4, unless the weights are float32 and unsharded: then
    # the optimizer steps them directly.
    optimizer_size = 8 if weight_size == 4 and zero_stage == 0 else 12
    reference = model_size * num_parameters if config.beta and config.lora is None else 0
    sharded_from_stage = (
        (1, optimizer_size * num_trained),
        (2, weight_size * num_trained),  # gradients
        (3, weight_size * num_parameters + reference),
    )
    return sum(count // (config.num_ranks if zero_stage >= stage else 1) for stage, count in sharded_from_stage)


def device_memory(*, on_gpu: bool) -> tuple[int, str]:
    """Return the total memory of this process's device in bytes, and what the device is, in words."""
    if on_gpu:
        return torch.cuda.mem_get_info()[1], "a GPU"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"


def has_spare_memory() -> bool:
    """Return whether the host has memory for copies of tensors: more than `SPARE_SHARE` of it is free."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    with suppress(OSError, ValueError):  # not in a container, or in one without a limit
        limit, used = (int((CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().split("\n") if line)
        cache = int(statistics["inactive_file"])  # pages of files, which the kernel takes back when it needs them
        total, free = min(total, limit), min(free, limit - used + cache)
    return bool(free > SPARE_SHARE * total)


def check_fits(policy: nn.Module, model: ModelConfig, config: LearnerConfig) -> None:
    """Check that a rank fits its device, before anything is put there: running out of memory later takes minutes.

    Args:
        policy: The model to be trained, still in the host's memory.
        model: What it was loaded from.
        config: The learner's settings.

    Raises:
        ResourceError: It does not; the message says what a rank needs, what the device has, and which settings fit.
    """
    on_gpu = torch.cuda.is_available()
    num_parameters = sum(parameter.numel() for parameter in policy.parameters())
    num_trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    needed = static_bytes(num_parameters, num_trained, model, config)
    available, device = device_memory(on_gpu=on_gpu)
    if needed > available:
        advice = suggest_settings(num_parameters, num_trained, model, config, available, on_gpu=on_gpu)
        raise ResourceError(f"{memory_message(needed, available, device)}: {advice}")


def memory_message(needed: int, available: int, device: str) -> str:
    """Return in words how much memory a rank needs and how much its device has.

    Args:
        needed: `static_bytes` of a rank.
        available: Bytes that the device has.
        device: What the device is, as `device_memory` says it.
    """
    return f"a learner rank needs {needed / GIB:.1f} GiB before activations, and {device} has {available / GIB:.1f}"


def suggest_settings(
    num_parameters: int, num_trained: int, model: ModelConfig, config: LearnerConfig, available: int, *, on_gpu: bool
) -> str:
    """Return in words the smallest changes of settings after which a rank fits, with room left for activations.

    Args:
        num_parameters: Parameters of the policy.
        num_trained: How many of them are trained.
        model: Gives the dtype of the model.
        config: Settings that do not fit.
        available: Bytes that the device has.
        on_gpu: Whether the device is a GPU.
    """
    room = (1 - ACTIVATION_SHARE) * available
    suggestions = []
    # Ranks on CPUs may all run on one machine: sharding over them does not free any of its memory.
    if on_gpu and trainer_class(config).supports_zero_stages:
        more_ranks = [(3, num_ranks) for num_ranks in range(config.num_ranks, config.groups_per_update + 1)]
        for stage, num_ranks in [(1, config.num_ranks), (2, config.num_ranks), *more_ranks]:
            changes = {"zero_stage": stage, "num_ranks": num_ranks}
            if static_bytes(num_parameters, num_trained, model, config.model_copy(update=changes)) <= room:
                suggestions.append(
                    " ".join(f"learner.{key}={new}" for key, new in changes.items() if new != getattr(config, key))
                )
                break
    adapter = config.model_copy(update={"lora": LoraConfig(rank=16)})
    if config.lora is None and static_bytes(num_parameters, 0, model, adapter) <= room:
        suggestions.append("an adapter (learner.lora.rank=16)")
    return f"{' or '.join(suggestions)} fits" if suggestions else "use a smaller model"
