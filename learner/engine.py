"""What the learner needs of a training engine, and the plain torch one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from learner.policy import Policy
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.lora import wire_name
from tlpo_ray.flow.weights import TensorMeta

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Loss = Callable[[Policy], Tensor]
"""A micro-batch's share of the update's loss, a scalar."""


class TrainEngine(Protocol):
    """Weights, gradients and optimizer of one learner rank. All ranks call the same methods in the same order."""

    rank: int
    ranks: int
    device: torch.device
    layout: str
    """What a checkpoint depends on: it can only be loaded by an engine of the same layout, of any kind and size."""

    def policy(self) -> Policy:
        """The policy as something to call."""

    def frozen(self, module: nn.Module) -> Policy:
        """A model that takes no steps, on this engine's devices, shared among the ranks as the policy is."""

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        """One optimizer step on the sum of all ranks' losses, as many on each rank.

        Returns:
            The gradient norm before clipping; NaN where the engine does not tell.

        Raises:
            NonFiniteError: a loss or the gradient is NaN or infinite. The weights are as before; the run is over.
        """

    def tensors(self, *, frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Full weights in the model's dtype, Hugging Face names, tied ones once, in the order of its parameters.

        Those that are trained: all, or an adapter's; `frozen` adds what is beside it, under PEFT's names.

        Every rank must iterate to the end; only rank 0 gets any. A tensor may share memory with the weights: it is
        good until the next step.
        """

    def metas(self) -> tuple[TensorMeta, ...]:
        """What `tensors` yields on rank 0, without gathering anything."""

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Full float32 weights and both of AdamW's moments of all trained parameters: ``weight/NAME``,
        ``exp_avg/NAME``, ``exp_avg_sq/NAME``, and how often the optimizer has stepped, ``steps`` [].

        Every rank must iterate to the end; what rank 0 gets is the whole.
        """

    def restore(self, read: Callable[[str], Tensor]) -> None:
        """Put back what `state` gave; `read` finds a tensor by its name. Every rank must call it."""


def parameters(module: nn.Module, *, frozen: bool = False) -> list[tuple[str, nn.Parameter]]:
    """A model's trained parameters by their names on the wire; `frozen` adds the others."""
    return [(wire_name(name), p) for name, p in module.named_parameters() if frozen or p.requires_grad]


def metas(module: nn.Module, dtype: torch.dtype) -> tuple[TensorMeta, ...]:
    """Name, dtype on the wire and full shape of a model's trained parameters."""
    spelled = str(dtype).removeprefix("torch.")
    return tuple(
        # Under ZeRO-3 a parameter's own shape is empty.
        TensorMeta(name=name, dtype=spelled, shape=tuple(getattr(parameter, "ds_shape", parameter.shape)))
        for name, parameter in parameters(module)
    )


def adamw(model: nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """Fused AdamW with weight decay on matrices only: norms and biases keep their scale."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=config.lr, betas=config.betas, fused=True)


def layout(config: LearnerConfig) -> str:
    """`TrainEngine.layout`."""
    if config.lora is None:
        return "all weights"
    return f"an adapter of rank {config.lora.rank} at {' '.join(config.lora.targets)}"


MOMENTS = ("exp_avg", "exp_avg_sq")


def adamw_state(named: Sequence[tuple[str, Tensor]], optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """`TrainEngine.state` of an optimizer that holds whole parameters."""
    steps = torch.zeros(())
    for name, parameter in named:
        found = optimizer.state.get(parameter, {})
        yield f"weight/{name}", parameter.detach().float()
        for moment in MOMENTS:  # none before the first step
            yield f"{moment}/{name}", found.get(moment, torch.zeros_like(parameter)).float()
        steps = found.get("step", steps)
    yield "steps", steps.float()


def restore_adamw(
    named: Sequence[tuple[str, Tensor]], optimizer: torch.optim.Optimizer, read: Callable[[str], Tensor]
) -> None:
    """`TrainEngine.restore` of such an optimizer."""
    for name, parameter in named:
        parameter.data.copy_(read(f"weight/{name}"))
        found = {moment: torch.empty_like(parameter).copy_(read(f"{moment}/{name}")) for moment in MOMENTS}
        optimizer.state[parameter] = {"step": read("steps").to(parameter.device, copy=True), **found}


class TorchEngine:
    """One process, one device, float32 master weights; bfloat16 by autocast."""

    rank = 0
    ranks = 1

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.layout = layout(config)
        self._module = module.to(self.device)
        self._dtype = DTYPES[model.dtype]
        self._max_grad_norm = config.max_grad_norm
        self._optimizer = adamw(self._module, config)

    def policy(self) -> Policy:
        return self._forward

    def frozen(self, module: nn.Module) -> Policy:
        return module.to(self.device)

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        try:
            for loss in losses:
                value = loss(self._forward)
                if not torch.isfinite(value):
                    raise NonFiniteError("the loss is not finite; no step was made")
                value.backward()  # type: ignore[no-untyped-call]
            norm = float(nn.utils.clip_grad_norm_(self._module.parameters(), self._max_grad_norm))
            if not math.isfinite(norm):
                raise NonFiniteError("the gradient is not finite; no step was made")
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
        finally:
            self._optimizer.zero_grad()
        return norm

    def tensors(self, *, frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in parameters(self._module, frozen=frozen):
            yield name, parameter.detach().to(self._dtype)

    def metas(self) -> tuple[TensorMeta, ...]:
        return metas(self._module, self._dtype)

    def barrier(self) -> None:
        """There is nobody to wait for."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from adamw_state(parameters(self._module), self._optimizer)

    def restore(self, read: Callable[[str], Tensor]) -> None:
        restore_adamw(parameters(self._module), self._optimizer, read)

    def _forward(self, **inputs: Any) -> Any:
        low = self._dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self._dtype) if low else nullcontext():
            return self._module(**inputs)
