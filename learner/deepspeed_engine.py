"""The training engine on DeepSpeed ZeRO: the only module that imports deepspeed."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from learner.engine import DTYPES, Loss, adamw, lora_layout, metas, parameters
from learner.policy import Policy
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.flow.errors import NonFiniteError, UserError
from tlpo_ray.flow.weights import TensorMeta

GATHER_CHUNK = 16
"""Parameters gathered at a time under ZeRO-3: a layer or two."""
TAG = "deepspeed"
NEVER = 10**9
"""Steps between DeepSpeed's own progress lines."""


def join_process_group(rank: int, ranks: int, address: str, port: int, deadline_s: float) -> None:
    """Meet the other learner ranks: NCCL on GPUs, gloo on the CPU.

    Args:
        deadline_s: after which a rank that waits for another in a collective gives up, seconds.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(ranks), MASTER_ADDR=address, MASTER_PORT=str(port))
    warnings.filterwarnings("ignore", category=FutureWarning)
    import deepspeed
    import deepspeed.ops

    if not on_gpu:
        # Otherwise init_distributed compiles a shared-memory kernel: a minute of g++ on every new machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if on_gpu else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False, timeout=timedelta(seconds=deadline_s))


class DeepSpeedEngine:
    """One rank of a ZeRO group. `join_process_group` must have been called.

    Args:
        module: the policy, with the same weights on every rank.
    """

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig, *, rank: int, ranks: int) -> None:
        import deepspeed

        self.rank, self.ranks = rank, ranks
        self.layout = f"engine deepspeed, zero_stage {config.zero_stage}, ranks {ranks}, dtype {model.dtype}"
        self.layout += lora_layout(config)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stage = config.zero_stage
        self._dtype = DTYPES[model.dtype]
        module = module.to(self.device)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=adamw(module, config), config=_deepspeed_config(model, config, ranks)
        )

    def policy(self) -> Policy:
        engine: Policy = self._engine
        return engine

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        for loss in losses:
            value = loss(self._engine)
            self._check(value, "the loss")
            # DeepSpeed averages gradients over ranks; ours is a sum.
            self._engine.backward(value * self.ranks, scale_wrt_gas=False)
        if self._stage == 0:  # the other stages look for themselves and skip a bad step
            self._check(self._local_norm(), "the gradient")
        self._engine.step()
        if not self._engine.was_step_applied():
            raise NonFiniteError("the gradient is not finite; no step was made")
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def tensors(self, *, frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        import deepspeed

        named = iter(parameters(self._engine.module, frozen=frozen))
        while chunk := list(islice(named, GATHER_CHUNK)):
            with deepspeed.zero.GatheredParameters([p for _, p in chunk], enabled=self._stage == 3):
                # Copied inside: outside the context a gathered parameter is empty again.
                found = [(n, p.detach().to(self._dtype, copy=True)) for n, p in chunk] if self.rank == 0 else []
            yield from found

    def metas(self) -> tuple[TensorMeta, ...]:
        return metas(self._engine.module, self._dtype)

    def barrier(self) -> None:
        torch.distributed.barrier()

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        loaded, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if loaded is None:  # DeepSpeed only warns
            raise UserError(f"{folder} holds no checkpoint: {TAG}/ is missing or empty")

    def _check(self, value: Tensor, what: str) -> None:
        # Every rank must raise together, or the others would wait in the next collective.
        bad = (~torch.isfinite(value.detach())).float().reshape(1)
        torch.distributed.all_reduce(bad)
        if bad.item():
            raise NonFiniteError(f"{what} is not finite; no step was made")

    def _local_norm(self) -> Tensor:
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)


def _deepspeed_config(model: ModelConfig, config: LearnerConfig, ranks: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": config.zero_stage, "overlap_comm": False, "contiguous_gradients": True}
    if config.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "train_batch_size": config.micro_batch * ranks,
        # How many micro-batches make a step is ours to say: a run's last update is short.
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": zero,
        # A torch optimizer of ours: DeepSpeed's own would be compiled first.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
        "bf16": {"enabled": model.dtype == "bfloat16"},
    }
