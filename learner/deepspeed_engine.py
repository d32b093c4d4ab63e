"""The training engine on DeepSpeed ZeRO: the only module that imports deepspeed."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from learner.engine import DTYPES, MOMENTS, Loss, adamw, adamw_state, layout, metas, parameters, restore_adamw
from learner.policy import Policy
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.weights import TensorMeta

GATHER_CHUNK = 16
"""Parameters gathered at a time under ZeRO-3: a layer or two."""
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
        self.layout = layout(config)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stage = config.zero_stage
        self._dtype = DTYPES[model.dtype]
        self._settings = _deepspeed_config(model, config, ranks)
        optimizer = adamw(module, config)  # first: it tells matrices by their shapes, which shards have lost
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self._placed(module), optimizer=optimizer, config=self._settings
        )

    def policy(self) -> Policy:
        engine: Policy = self._engine
        return engine

    def frozen(self, module: nn.Module) -> Policy:
        import deepspeed

        module = self._placed(module)
        if self._stage != 3:
            return module
        engine: Policy
        engine, *_ = deepspeed.initialize(model=module, config=self._settings)
        return engine

    def _placed(self, module: nn.Module) -> nn.Module:
        """On this rank's device; with stage 3 its share of it, parameter by parameter, so that the whole is on none."""
        import deepspeed

        if self._stage == 3:
            for parameter in module.parameters():  # DeepSpeed casts those of the other stages only
                parameter.data = parameter.data.to(self._dtype)
            deepspeed.zero.Init(module=module, config_dict_or_path=self._settings)
        return module.to(self.device)

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

    def state(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        named = parameters(self._engine.module)
        if not self._sharded(named):
            yield from adamw_state(self._masters(named), self._torch_optimizer)
            return
        self._link_moments()
        for name, parameter in named:
            yield f"weight/{name}", safe_get_full_fp32_param(parameter)
            for moment in MOMENTS:
                yield f"{moment}/{name}", safe_get_full_optimizer_state(parameter, moment)
        yield "steps", torch.tensor([float(one["step"]) for one in self._torch_optimizer.state.values()]).max()

    def restore(self, read: Callable[[str], Tensor]) -> None:
        import deepspeed
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        named = parameters(self._engine.module)
        if not self._sharded(named):
            masters = self._masters(named)
            restore_adamw(masters, self._torch_optimizer, read)
            for (_, parameter), (_, master) in zip(named, masters, strict=True):
                parameter.data.copy_(master)
            return
        self._link_moments()
        for name, parameter in named:
            weight = read(f"weight/{name}").to(self.device)
            safe_set_full_fp32_param(parameter, weight)
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, read(f"{moment}/{name}").to(self.device), moment)
            # The weights that compute are a copy of those that are stepped.
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self._stage == 3):
                if self._stage != 3 or self.rank == 0:
                    parameter.data.copy_(weight)
        for one in self._torch_optimizer.state.values():
            one["step"].copy_(read("steps"))

    def _masters(self, named: Sequence[tuple[str, nn.Parameter]]) -> list[tuple[str, Tensor]]:
        """What is stepped without ZeRO: the parameters, or float32 copies of them."""
        low, high = (getattr(self._optimizer, kept, ()) for kept in ("fp16_groups", "fp32_groups"))
        copies = {
            id(one): copy
            for ones, copies in zip(low, high, strict=True)
            for one, copy in zip(ones, copies, strict=True)
        }
        return [(name, copies.get(id(parameter), parameter)) for name, parameter in named]

    def _link_moments(self) -> None:
        """Let DeepSpeed find the moments of every parameter: made here if no step has made them yet, and linked
        anew, because it links them after the first of several parameter groups has stepped."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        wrapped, state = self._optimizer, self._torch_optimizer.state
        for kept, whole in (
            ("single_partition_of_fp32_groups", "bit16_groups"),  # ZeRO-1 and 2
            ("fp32_groups_flat_partition", "bf16_groups"),  # bfloat16 without ZeRO
            ("fp32_partitioned_groups_flat", None),  # ZeRO-3
        ):
            for number, flat in enumerate(getattr(wrapped, kept, ())):
                if "step" not in state[flat]:
                    moments = {moment: torch.zeros_like(flat) for moment in MOMENTS}
                    state[flat] = {"step": torch.zeros((), device=flat.device), **moments}
                if whole is not None:
                    lazy_init_hp_params_optimizer_state(getattr(wrapped, whole)[number], flat, state)

    @property
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """Ours, which DeepSpeed has wrapped unless it had nothing to add."""
        found: torch.optim.Optimizer = getattr(self._optimizer, "optimizer", self._optimizer)
        return found

    @staticmethod
    def _sharded(named: Sequence[tuple[str, nn.Parameter]]) -> bool:
        """Whether DeepSpeed steps other tensors than the model's parameters."""
        return any(hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping") for _, parameter in named)

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
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "train_batch_size": config.micro_batch_size * ranks,
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
