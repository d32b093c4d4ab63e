"""The contract between learner and training engines, and what all of them share.

A *trainer* is a training engine: a class that implements `TrainEngine`. The setting `learner.engine` names it; the name
is an entry point of the group `tlpo_ray.trainers`, so a package of its own can add one without a change here. In its
`pyproject.toml`::

    [project.entry-points."tlpo_ray.trainers"]
    fsdp = "my_package.fsdp:FSDPEngine"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from learner.policy import Policy
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import TRAINERS, load_plugin
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.flow.lora import wire_name
from tlpo_ray.flow.weights import TensorMeta

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Loss = Callable[[Policy], Tensor]
"""Computes a micro-batch's share of the update's loss, a scalar, from a forward pass of the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """Place of one process in the learner group.

    Example: ``RankInfo(rank=1, num_ranks=2, address="10.0.0.5", port=29500)``
    """

    rank: int = 0
    num_ranks: int = 1
    address: str = "127.0.0.1"
    """Host of rank 0."""
    port: int = 0
    """Port that rank 0 listens on; unused in a group of one that forms no process group."""
    deadline_s: float = 600.0
    """How long a rank waits for the others in a collective, in seconds."""


SINGLE_RANK = RankInfo()
"""A learner in one process."""


class TrainEngine(Protocol):
    """Weights, gradients and optimizer of one learner rank.

    The learner creates one engine per rank and process and calls, in this order::

        engine = Trainer(policy, model, config, rank_info)
        reference = engine.freeze(reference_model)          # only if β > 0 and all weights are trained
        while ...:
            engine.step([loss, ...], lr)                    # p times per update
            for name, tensor in engine.tensors(): ...       # once per policy version

    All ranks call the same methods with the same arguments in the same order: most of them hold collectives. Only the
    number of tokens in the losses differs from rank to rank.
    """

    display_name: ClassVar[str]
    """Name in messages to users; `{zero_stage}` is replaced with the setting."""
    is_distributed: ClassVar[bool]
    """Whether it can train with more than one rank (`learner.num_ranks`)."""
    supports_zero_stages: ClassVar[bool]
    """Whether `learner.zero_stage` applies: optimizer state, gradients and weights are sharded over the ranks, and
    float32 master weights are kept beside sharded ones. Otherwise every rank holds everything."""
    keeps_float32_weights: ClassVar[bool]
    """Whether the policy has to be loaded in float32: the weights of the forward pass are those that the optimizer
    steps. Otherwise it is loaded in the model's dtype, and the engine makes float32 master weights itself."""

    rank: int
    num_ranks: int
    device: torch.device
    """Device that batches have to be on."""
    layout: str
    """Identifies the trained parameters (`checkpoint_layout`). A checkpoint can be loaded by any engine of the same
    layout: of another trainer and another number of ranks too."""

    def __init__(self, module: nn.Module, model: ModelConfig, config: LearnerConfig, rank_info: RankInfo) -> None:
        """Move the policy to the rank's device and make its optimizer; join the process group if there is one.

        Args:
            module: The policy with the same weights on every rank; parameters with `requires_grad` are trained.
            model: What the policy was loaded from; gives the dtype to compute in.
            config: Hyper-parameters.
            rank_info: This rank and its group.
        """

    def policy(self) -> Policy:
        """Return the policy as a callable."""

    def freeze(self, module: nn.Module) -> Policy:
        """Put a model that is never trained on this engine's devices, sharded over the ranks as the policy is."""

    def step(self, losses: Sequence[Loss], lr: float) -> float:
        """Make one optimizer step on the sum of all ranks' losses, with gradients clipped to `learner.max_grad_norm`.

        Args:
            losses: This rank's micro-batches; their number is the same on every rank.
            lr: Learning rate of this step.

        Returns:
            The gradient norm before clipping; NaN where the engine does not compute it.

        Raises:
            NonFiniteError: A loss or the gradient is NaN or infinite. The weights are unchanged; the run ends.
        """

    def tensors(self, *, include_frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Yield full weights in the model's dtype under Hugging Face names, in the order of the model's parameters.

        Tied weights appear once. Every rank must exhaust the iterator; only rank 0 receives tensors. A tensor may share
        memory with the weights: it is valid until the next step.

        Args:
            include_frozen: Also yield parameters that are not trained. With an adapter, PEFT's names are used then.
        """

    def tensor_metas(self) -> tuple[TensorMeta, ...]:
        """Return metadata of what `tensors` yields on rank 0, without gathering anything."""

    def barrier(self) -> None:
        """Wait until every rank has called it."""

    def state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the training state in full: per trained parameter its float32 weight and both of AdamW's moments, as
        ``weight/NAME``, ``exp_avg/NAME`` and ``exp_avg_sq/NAME``; at last the number of optimizer steps, ``steps`` [].

        Every rank must exhaust the iterator; what rank 0 receives is complete.
        """

    def load_state(self, read: Callable[[str], Tensor]) -> None:
        """Restore what `state_tensors` yielded, bit for bit; every rank must call it.

        Args:
            read: Returns a tensor by its name; raises UserError if the checkpoint does not hold it.
        """


def trainer_class(config: LearnerConfig) -> type[TrainEngine]:
    """Import and return the trainer that `learner.engine` names.

    Raises:
        ConfigError: It is not installed, or importing it fails.
    """
    trainer: type[TrainEngine] = load_plugin(TRAINERS, config.engine)
    return trainer


def policy_dtype(model: ModelConfig, config: LearnerConfig) -> torch.dtype:
    """Return the dtype in which the policy is loaded for training."""
    # Frozen weights take no steps that bfloat16 could lose: with an adapter they stay in the model's dtype.
    in_float32 = trainer_class(config).keeps_float32_weights and config.lora is None
    return torch.float32 if in_float32 else DTYPES[model.dtype]


def checkpoint_layout(config: LearnerConfig) -> str:
    """Return the layout of checkpoints with these settings, in words: it appears in an error message."""
    if config.lora is None:
        return "all weights"
    return f"an adapter of rank {config.lora.rank} at {' '.join(config.lora.targets)}"


def named_parameters(module: nn.Module, *, include_frozen: bool = False) -> list[tuple[str, nn.Parameter]]:
    """Return a model's trained parameters, or all of them, by their names on the wire."""
    return [(wire_name(name), p) for name, p in module.named_parameters() if include_frozen or p.requires_grad]


def tensor_metas(module: nn.Module, dtype: torch.dtype) -> tuple[TensorMeta, ...]:
    """Return name, dtype on the wire and full shape of a model's trained parameters."""
    dtype_name = str(dtype).removeprefix("torch.")
    return tuple(
        # Under ZeRO-3 a parameter's own shape is empty; DeepSpeed keeps the full one in ds_shape.
        TensorMeta(name=name, dtype=dtype_name, shape=tuple(getattr(parameter, "ds_shape", parameter.shape)))
        for name, parameter in named_parameters(module)
    )
