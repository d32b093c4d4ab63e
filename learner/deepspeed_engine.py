"""The training engine on DeepSpeed ZeRO. The only module that imports deepspeed, inside functions: it takes seconds."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from learner.adamw import MOMENTS, adamw_state_tensors, load_adamw_state, make_adamw
from learner.engine import DTYPES, Loss, RankInfo, checkpoint_layout, named_parameters, tensor_metas
from learner.policy import Policy
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.weights import TensorMeta
from tlpo_ray.loading import heavy_imports

GATHER_CHUNK = 16
"""Parameters gathered at a time under ZeRO-3: a layer or two."""
BUCKET = 2**24
"""Number of gradients that are reduced or stepped together. DeepSpeed makes buffers of this size: 2 GB by default."""
NEVER = 10**9
"""Steps between DeepSpeed's own progress lines."""


def join_process_group(rank_info: RankInfo) -> None:
    """Join torch's default process group of the learner ranks: NCCL on GPUs, gloo on the CPU.

    Does nothing if this process has already joined. Blocks until all ranks have joined.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.update(
        RANK=str(rank_info.rank),
        LOCAL_RANK="0",  # Ray shows each rank its own GPU only
        WORLD_SIZE=str(rank_info.num_ranks),
        MASTER_ADDR=rank_info.address,
        MASTER_PORT=str(rank_info.port),
    )
    warnings.filterwarnings("ignore", category=FutureWarning)
    with heavy_imports():
        import deepspeed
        import deepspeed.ops

    if not on_gpu:
        # Otherwise init_distributed compiles a shared-memory kernel: a minute of g++ on every new machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if on_gpu else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False, timeout=timedelta(seconds=rank_info.deadline_s))


class DeepSpeedEngine:
    """`TrainEngine` as one rank of a ZeRO group."""

    display_name: ClassVar[str] = "DeepSpeed ZeRO-{zero_stage}"
    is_distributed: ClassVar[bool] = True
    supports_zero_stages: ClassVar[bool] = True
    keeps_float32_weights: ClassVar[bool] = False

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig, rank_info: RankInfo) -> None:
        join_process_group(rank_info)
        import deepspeed

        self.rank, self.num_ranks = rank_info.rank, rank_info.num_ranks
        self.layout = checkpoint_layout(config)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stage = config.zero_stage
        self._dtype = DTYPES[model.dtype]
        self._settings = _deepspeed_config(model, config, rank_info.num_ranks)
        # Before the model is sharded: weight decay is chosen by the number of dimensions, and shards are flat.
        optimizer = make_adamw(module, config)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self._to_device(module), optimizer=optimizer, config=self._settings
        )

    def policy(self) -> Policy:
        engine: Policy = self._engine
        return engine

    def freeze(self, module: nn.Module) -> Policy:
        import deepspeed

        module = self._to_device(module)
        if self._stage != 3:
            return module
        engine: Policy
        engine, *_ = deepspeed.initialize(model=module, config=self._settings)
        return engine

    def _to_device(self, module: nn.Module) -> nn.Module:
        """Move a model to this rank's device; with stage 3 only its shard, so that no device ever holds the model."""
        import deepspeed

        if self._stage == 3:
            # DeepSpeed casts to the model's dtype itself, but not under stage 3.
            for parameter in module.parameters():
                parameter.data = parameter.data.to(self._dtype)
            deepspeed.zero.Init(module=module, config_dict_or_path=self._settings)
        return module.to(self.device)

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        for loss in losses:
            value = loss(self._engine)
            self._check_finite(value, "the loss")
            # DeepSpeed averages gradients over ranks; ours is a sum.
            self._engine.backward(value * self.num_ranks, scale_wrt_gas=False)
        if self._stage == 0:  # the other stages check the gradient themselves and skip the step
            self._check_finite(self._local_norm(), "the gradient")
        self._engine.step()
        if not self._engine.was_step_applied():
            raise NonFiniteError("the gradient is not finite; no step was made")
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def tensors(self, *, include_frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        import deepspeed

        named = iter(named_parameters(self._engine.module, include_frozen=include_frozen))
        while chunk := list(islice(named, GATHER_CHUNK)):
            with deepspeed.zero.GatheredParameters([p for _, p in chunk], enabled=self._stage == 3):
                # A gathered parameter is copied inside the context: outside it is empty again.
                copy = self._stage == 3
                gathered = [(n, p.detach().to(self._dtype, copy=copy)) for n, p in chunk] if self.rank == 0 else []
            yield from gathered

    def tensor_metas(self) -> tuple[TensorMeta, ...]:
        return tensor_metas(self._engine.module, self._dtype)

    def barrier(self) -> None:
        torch.distributed.barrier()

    def state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        named = named_parameters(self._engine.module)
        if not self._is_sharded(named):
            yield from adamw_state_tensors(self._masters(named), self._torch_optimizer)
            return
        self._link_moments()
        for name, parameter in named:
            yield f"weight/{name}", safe_get_full_fp32_param(parameter)
            for moment in MOMENTS:
                yield f"{moment}/{name}", safe_get_full_optimizer_state(parameter, moment)
        yield "steps", torch.tensor([float(state["step"]) for state in self._torch_optimizer.state.values()]).max()

    def load_state(self, read: Callable[[str], Tensor]) -> None:
        import deepspeed
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        named = named_parameters(self._engine.module)
        if not self._is_sharded(named):
            masters = self._masters(named)
            load_adamw_state(masters, self._torch_optimizer, read)
            for (_, parameter), (_, master) in zip(named, masters, strict=True):
                parameter.data.copy_(master)
            return
        self._link_moments()
        for name, parameter in named:
            weight = read(f"weight/{name}").to(self.device)
            safe_set_full_fp32_param(parameter, weight)
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, read(f"{moment}/{name}").to(self.device), moment)
            # The weights of the forward pass are a copy of the master weights that the optimizer steps: set both.
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self._stage == 3):
                if self._stage != 3 or self.rank == 0:
                    parameter.data.copy_(weight)
        for state in self._torch_optimizer.state.values():
            state["step"].copy_(read("steps"))

    def _masters(self, named: Sequence[tuple[str, nn.Parameter]]) -> list[tuple[str, Tensor]]:
        """Return the tensors that are stepped without ZeRO: the parameters themselves, or float32 copies of them."""
        groups_16, groups_32 = (getattr(self._optimizer, name, ()) for name in ("fp16_groups", "fp32_groups"))
        masters = {
            id(parameter): master
            for group_16, group_32 in zip(groups_16, groups_32, strict=True)
            for parameter, master in zip(group_16, group_32, strict=True)
        }
        return [(name, masters.get(id(parameter), parameter)) for name, parameter in named]

    def _link_moments(self) -> None:
        """Let DeepSpeed find the moments of every parameter.

        Moments that no step has made yet are made here. All are linked anew, because DeepSpeed links them once, after
        the first of several parameter groups has stepped, and misses those of the other groups.
        """
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        wrapper, state = self._optimizer, self._torch_optimizer.state
        # Each of DeepSpeed's optimizers keeps its flat partitions, and the parameters they hold, under other names.
        for partitions_name, parameters_name in (
            ("single_partition_of_fp32_groups", "bit16_groups"),  # ZeRO-1 and 2
            ("fp32_groups_flat_partition", "bf16_groups"),  # bfloat16 without ZeRO
            ("fp32_partitioned_groups_flat", None),  # ZeRO-3
        ):
            for number, partition in enumerate(getattr(wrapper, partitions_name, ())):
                if "step" not in state[partition]:
                    moments = {moment: torch.zeros_like(partition) for moment in MOMENTS}
                    state[partition] = {"step": torch.zeros((), device=partition.device), **moments}
                if parameters_name is not None:
                    parameters = getattr(wrapper, parameters_name)[number]
                    lazy_init_hp_params_optimizer_state(parameters, partition, state)

    @property
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """Our AdamW, which DeepSpeed wraps unless it has nothing to add."""
        optimizer: torch.optim.Optimizer = getattr(self._optimizer, "optimizer", self._optimizer)
        return optimizer

    @staticmethod
    def _is_sharded(named: Sequence[tuple[str, nn.Parameter]]) -> bool:
        """Return whether DeepSpeed steps other tensors than the model's parameters or copies of them."""
        return any(hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping") for _, parameter in named)

    def _check_finite(self, value: Tensor, what: str) -> None:
        # All ranks must raise together: the others would wait in the next collective until its deadline.
        is_bad = (~torch.isfinite(value.detach())).float().reshape(1)
        torch.distributed.all_reduce(is_bad)
        if is_bad.item():
            raise NonFiniteError(f"{what} is not finite; no step was made")

    def _local_norm(self) -> Tensor:
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)


def _deepspeed_config(model: ModelConfig, config: LearnerConfig, num_ranks: int) -> dict[str, Any]:
    zero: dict[str, Any] = {
        "stage": config.zero_stage, "overlap_comm": False, "contiguous_gradients": True,
        "reduce_bucket_size": BUCKET,
    }  # fmt: skip
    if config.zero_stage == 3:
        # Shard small parameters too: by default DeepSpeed keeps them whole on every rank.
        zero["stage3_param_persistence_threshold"] = 0
        if not torch.cuda.is_available():
            # On GPUs weights that were gathered stay for the backward pass, and the next are fetched meanwhile. On a
            # CPU the ranks share one memory: each would hold policy and reference whole.
            zero |= {"stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0}
            zero["sub_group_size"] = BUCKET
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "train_batch_size": config.micro_batch_size * num_ranks,
        # We decide how many micro-batches make a step: the last update of a run is short.
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": zero,
        # Our optimizer is torch's: DeepSpeed's own would be compiled first.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
        "bf16": {"enabled": model.dtype == "bfloat16"},
    }
