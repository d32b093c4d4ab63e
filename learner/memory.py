"""What a learner rank holds all the time, and whether its GPU, or its machine, has that much."""

from __future__ import annotations

import os

import torch
from torch import nn

from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.flow.errors import ResourceError

GIB = 1 << 30
SIZES = {"bfloat16": 2, "float32": 4}
TRAINED = 16
"""Bytes of a trained parameter: weight, gradient and AdamW's moments in float32; or weight and gradient in bfloat16,
master weight and moments in float32."""
MOST_RANKS = 1024


def held(parameters: int, trained: int, model: ModelConfig, config: LearnerConfig) -> int:
    """Bytes of one rank's weights, gradients, optimizer and reference policy. Activations come on top.

    Args:
        parameters: of the policy.
        trained: of them, those that are.
    """
    size = 4 if whole_float32(config) else SIZES[model.dtype]
    reference = SIZES[model.dtype] * parameters if config.beta and config.lora is None else 0
    sharded_from = ((1, (TRAINED - 2 * size) * trained), (2, size * trained), (3, size * parameters + reference))
    return sum(count // (config.ranks if config.zero_stage >= stage else 1) for stage, count in sharded_from)


def whole_float32(config: LearnerConfig) -> bool:
    """Whether the weights that compute are those that are stepped. DeepSpeed keeps masters of its own beside them,
    and frozen weights take no steps that bfloat16 would lose."""
    return config.engine == "torch" and config.lora is None


def there(*, on_gpu: bool) -> tuple[int, str]:
    """Bytes that a learner rank on this machine can have at most, and of what."""
    if on_gpu:
        return torch.cuda.mem_get_info()[1], "a GPU"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"


def require_room(policy: nn.Module, model: ModelConfig, config: LearnerConfig) -> None:
    """Check before anything is put on the device.

    Raises:
        ResourceError: what a rank needs, what there is, and the smallest change that fits.
    """
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    needed, (found, where) = held(parameters, trained, model, config), there(on_gpu=torch.cuda.is_available())
    if needed > found:
        raise ResourceError(
            f"{needs(needed, found, where)}: {what_fits(parameters, trained, model, config, found)}, or train an "
            f"adapter (learner.lora.rank=16)"
        )


def needs(needed: int, found: int, where: str) -> str:
    """What a rank needs and what there is, in words."""
    return f"a learner rank needs {needed / GIB:.1f} GiB before activations, and {where} has {found / GIB:.1f}"


def what_fits(parameters: int, trained: int, model: ModelConfig, config: LearnerConfig, found: int) -> str:
    """The smallest change of settings after which a rank needs no more than `found` bytes."""
    for ranks in range(config.ranks, MOST_RANKS):
        changes = {"engine": "deepspeed", "zero_stage": 3, "ranks": ranks}
        if held(parameters, trained, model, config.model_copy(update=changes)) <= found:
            changed = [f"learner.{name}={new}" for name, new in changes.items() if new != getattr(config, name)]
            return f"{', '.join(changed)} fits"
    return "take a smaller model"
