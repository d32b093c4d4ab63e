"""The training engine in plain torch: one process and one device, for `stack: local` and as the oracle in tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from learner.adamw import adamw_state_tensors, load_adamw_state, make_adamw
from learner.engine import DTYPES, SINGLE_RANK, Loss, RankInfo, checkpoint_layout, named_parameters, tensor_metas
from learner.policy import Policy
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.weights import TensorMeta


class TorchEngine:
    """`TrainEngine` with float32 weights that AdamW steps directly; bfloat16 models compute under autocast."""

    display_name: ClassVar[str] = "torch"
    is_distributed: ClassVar[bool] = False
    supports_zero_stages: ClassVar[bool] = False
    keeps_float32_weights: ClassVar[bool] = True

    rank = 0
    num_ranks = 1

    def __init__(
        self, module: nn.Module, model: ModelConfig, config: LearnerConfig, rank_info: RankInfo = SINGLE_RANK
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.layout = checkpoint_layout(config)
        self.module = module.to(self.device)
        self._dtype = DTYPES[model.dtype]
        self._max_grad_norm = config.max_grad_norm
        self._optimizer = make_adamw(self.module, config)

    def policy(self) -> Policy:
        return self._forward

    def freeze(self, module: nn.Module) -> Policy:
        return module.to(self.device)

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        try:
            for loss in losses:
                value = loss(self._forward)
                if not torch.isfinite(value):
                    raise NonFiniteError("the loss is not finite; no step was made")
                value.backward()  # type: ignore[no-untyped-call]
            norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self._max_grad_norm))
            if not math.isfinite(norm):
                raise NonFiniteError("the gradient is not finite; no step was made")
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
        finally:  # also after an error: a later step must not start from these gradients
            self._optimizer.zero_grad()
        return norm

    def tensors(self, *, include_frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in named_parameters(self.module, include_frozen=include_frozen):
            yield name, parameter.detach().to(self._dtype)

    def tensor_metas(self) -> tuple[TensorMeta, ...]:
        return tensor_metas(self.module, self._dtype)

    def barrier(self) -> None:
        """Return at once: no other rank exists."""

    def state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from adamw_state_tensors(named_parameters(self.module), self._optimizer)

    def load_state(self, read: Callable[[str], Tensor]) -> None:
        load_adamw_state(named_parameters(self.module), self._optimizer, read)

    def _forward(self, **inputs: Any) -> Any:
        is_low_precision = self._dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self._dtype) if is_low_precision else nullcontext():
            return self.module(**inputs)
