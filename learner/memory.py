"""What a learner rank holds all the time, and whether its GPU, or its machine, has that much."""

from __future__ import annotations

import os

import torch
from torch import nn

from learner.engine import DTYPES
from tlpo_ray.config.run import GIB, LearnerConfig, LoraConfig, ModelConfig
from tlpo_ray.errors import ResourceError

FOR_ACTIVATIONS = 0.2
"""Share of a device that a change which is proposed leaves free."""


def held(parameters: int, trained: int, model: ModelConfig, config: LearnerConfig) -> int:
    """Bytes of one rank's weights, gradients, optimizer and reference policy. Activations come on top.

    Args:
        parameters: of the policy.
        trained: of them, those that are.
    """
    copy = DTYPES[model.dtype].itemsize
    size = 4 if whole_float32(config) else copy
    # AdamW's moments in float32, and a float32 master of the weights unless these are stepped themselves.
    optimizer = 8 if size == 4 and (config.engine == "torch" or config.zero_stage == 0) else 12
    reference = copy * parameters if config.beta and config.lora is None else 0
    sharded_from = ((1, optimizer * trained), (2, size * trained), (3, size * parameters + reference))
    return sum(count // (config.num_ranks if config.zero_stage >= stage else 1) for stage, count in sharded_from)


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
        ResourceError: what a rank needs, what there is, and what would fit.
    """
    on_gpu = torch.cuda.is_available()
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    needed, (found, where) = held(parameters, trained, model, config), there(on_gpu=on_gpu)
    if needed > found:
        fits = what_fits(parameters, trained, model, config, found, on_gpu=on_gpu)
        raise ResourceError(f"{needs(needed, found, where)}: {fits}")


def needs(needed: int, found: int, where: str) -> str:
    """What a rank needs and what there is, in words."""
    return f"a learner rank needs {needed / GIB:.1f} GiB before activations, and {where} has {found / GIB:.1f}"


def what_fits(
    parameters: int, trained: int, model: ModelConfig, config: LearnerConfig, found: int, *, on_gpu: bool
) -> str:
    """The smallest changes of settings after which a rank fits into `found` bytes and has some left for activations."""
    room = (1 - FOR_ACTIVATIONS) * found
    ways = []
    if on_gpu and config.engine == "deepspeed":  # ranks on CPUs may all be of one machine, which sharding leaves full
        more_ranks = [(3, ranks) for ranks in range(config.num_ranks, config.groups_per_update + 1)]
        for stage, ranks in [(1, config.num_ranks), (2, config.num_ranks), *more_ranks]:
            changes = {"zero_stage": stage, "num_ranks": ranks}
            if held(parameters, trained, model, config.model_copy(update=changes)) <= room:
                ways.append(
                    " ".join(f"learner.{key}={new}" for key, new in changes.items() if new != getattr(config, key))
                )
                break
    adapter = config.model_copy(update={"lora": LoraConfig(rank=16)})
    if config.lora is None and held(parameters, 0, model, adapter) <= room:
        ways.append("an adapter (learner.lora.rank=16)")
    return f"{' or '.join(ways)} fits" if ways else "take a smaller model"
