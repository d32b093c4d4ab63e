"""What the learner needs of a training engine, and the plain torch one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from learner.policy import Policy
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.flow.errors import NonFiniteError
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
    """What a checkpoint depends on: it can only be loaded by an engine of the same layout."""

    def policy(self) -> Policy:
        """The policy as something to call."""

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

    def save(self, folder: Path) -> None:
        """Write this rank's part of weights and optimizer state into an existing folder."""

    def load(self, folder: Path) -> None:
        """Continue from what `save` wrote.

        Raises:
            UserError: nothing was written there.
        """


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


def lora_layout(config: LearnerConfig) -> str:
    """What an adapter adds to `TrainEngine.layout`."""
    return "" if config.lora is None else f", lora {config.lora.rank} {' '.join(config.lora.targets)}"


class TorchEngine:
    """One process, one device, float32 master weights; bfloat16 by autocast."""

    rank = 0
    ranks = 1

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.layout = f"engine torch{lora_layout(config)}"
        self._module = module.to(self.device)
        self._dtype = DTYPES[model.dtype]
        self._max_grad_norm = config.max_grad_norm
        self._optimizer = adamw(self._module, config)

    def policy(self) -> Policy:
        return self._forward

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

    def save(self, folder: Path) -> None:
        state = {"model": self._module.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / "torch.pt")

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "torch.pt", map_location=self.device, weights_only=True)
        self._module.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _forward(self, **inputs: Any) -> Any:
        low = self._dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self._dtype) if low else nullcontext():
            return self._module(**inputs)
