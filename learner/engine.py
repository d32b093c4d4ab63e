"""What the learner needs of a training engine, and the plain torch one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from learner.batch import GroupBatch
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.flow.errors import NonFiniteError
from tlpo_ray.flow.weights import WireTensor, to_wire

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Loss = Callable[[Callable[..., Any], GroupBatch, int], Tensor]
"""Of (model, micro-batch, its number): the micro-batch's share of the update's loss, a scalar."""


class TrainEngine(Protocol):
    """Weights, gradients and optimizer of one learner rank. All ranks call the same methods in the same order."""

    rank: int
    ranks: int
    device: torch.device

    def model(self) -> Callable[..., Any]:
        """The policy as something to call."""

    def step(self, batches: Sequence[GroupBatch], loss: Loss, lr: float) -> float:
        """One optimizer step on the sum of all ranks' losses; the gradient norm before clipping.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the weights are as before.
        """

    def tensors(self) -> Iterator[tuple[str, WireTensor]]:
        """Full weights in wire form, Hugging Face names, tied ones once. Every rank must iterate to the end; only
        rank 0 gets any."""

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def save(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Write this rank's part of a checkpoint into an existing folder."""

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint; the state that was saved with it."""


def adamw(model: nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: norms and biases keep their scale, as in the paper's trainer."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Under ZeRO-3 a parameter's own shape is empty; ds_shape is the full one.
    matrices = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) > 1]
    vectors = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas, foreach=True)


class TorchEngine:
    """One process, one device, float32 master weights; bfloat16 by autocast."""

    rank = 0
    ranks = 1

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module = module.to(self.device)
        self._dtype = DTYPES[model.dtype]
        self._max_grad_norm = config.max_grad_norm
        self._optimizer = adamw(self._module, config)

    def model(self) -> Callable[..., Any]:
        return self._forward

    def step(self, batches: Sequence[GroupBatch], loss: Loss, lr: float) -> float:
        for number, batch in enumerate(batches):
            value = loss(self._forward, batch, number)
            if not torch.isfinite(value):
                self._optimizer.zero_grad()
                raise NonFiniteError("the loss is not finite; no step was made")
            value.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self._module.parameters(), self._max_grad_norm))
        if not math.isfinite(norm):
            self._optimizer.zero_grad()
            raise NonFiniteError("the gradient is not finite; no step was made")
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def tensors(self) -> Iterator[tuple[str, WireTensor]]:
        for name, parameter in self._module.named_parameters():
            yield name, to_wire(parameter.to(self._dtype))

    def barrier(self) -> None:
        """There is nobody to wait for."""

    def save(self, folder: Path, state: Mapping[str, Any]) -> None:
        torch.save(
            {"model": self._module.state_dict(), "optimizer": self._optimizer.state_dict(), "state": dict(state)},
            folder / "torch.pt",
        )

    def load(self, folder: Path) -> dict[str, Any]:
        saved = torch.load(folder / "torch.pt", map_location=self.device, weights_only=True)
        self._module.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(saved["optimizer"])
        state: dict[str, Any] = saved["state"]
        return state

    def _forward(self, **inputs: Any) -> Any:
        low = self._dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self._dtype) if low else nullcontext():
            return self._module(**inputs)
