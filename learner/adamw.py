"""AdamW as every trainer of ours uses it, and its state as checkpoints hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tlpo_ray.config.run import LearnerConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Names of AdamW's moments in torch's optimizer state and in checkpoints."""


def make_adamw(model: nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """Return fused AdamW over a model's trainable parameters.

    Weight decay applies to matrices only: norms and biases have a scale of their own that must not shrink.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def adamw_state_tensors(
    named: Sequence[tuple[str, Tensor]], optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """Yield `TrainEngine.state_tensors` of an optimizer that steps unsharded parameters.

    Args:
        named: Stepped parameters by name.
        optimizer: AdamW over them.
    """
    steps = torch.zeros(())
    for name, parameter in named:
        state = optimizer.state.get(parameter, {})
        yield f"weight/{name}", parameter.detach().float()
        for moment in MOMENTS:  # the optimizer has none before its first step
            yield f"{moment}/{name}", state.get(moment, torch.zeros_like(parameter)).float()
        steps = state.get("step", steps)
    yield "steps", steps.float()


def load_adamw_state(
    named: Sequence[tuple[str, Tensor]], optimizer: torch.optim.Optimizer, read: Callable[[str], Tensor]
) -> None:
    """Restore what `adamw_state_tensors` yielded.

    Args:
        named: Stepped parameters by name.
        optimizer: AdamW over them.
        read: Returns a tensor by its name.
    """
    for name, parameter in named:
        parameter.data.copy_(read(f"weight/{name}"))
        moments = {moment: torch.empty_like(parameter).copy_(read(f"{moment}/{name}")) for moment in MOMENTS}
        # A copy per parameter: fused AdamW increments each parameter's step count in place.
        optimizer.state[parameter] = {"step": read("steps").to(parameter.device, copy=True), **moments}
