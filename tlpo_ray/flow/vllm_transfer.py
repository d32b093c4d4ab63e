"""Our engines in vLLM's weight-transfer registry, adapters, and the learner's end of broadcasts.

Importing this module imports vLLM, which takes seconds and needs vLLM installed: import it inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
import vllm
from torch import Tensor
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightSource,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
from vllm.lora.request import LoRARequest
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.platforms import current_platform

from tlpo_ray.config.model import LoraConfig
from tlpo_ray.errors import ConfigError, first_line
from tlpo_ray.flow.lora import write_adapter
from tlpo_ray.flow.models import used_by_text
from tlpo_ray.flow.weights import RECEIVERS, BroadcastSender, Bucket, Rendezvous, TensorMeta, from_wire

OBJECT_STORE, GLOO = RECEIVERS["object_store"], RECEIVERS["gloo"]


def register() -> None:
    """Add our engines to vLLM's registries; does nothing when called again in the same process."""
    if OBJECT_STORE not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(OBJECT_STORE, BucketReceiver)
        WeightTransferEngineFactory.register_engine(GLOO, GlooReceiver)
        WeightTransferTrainerFactory.register_engine(GLOO, GlooSender)


def load_adapter(
    engine: Any, bucket: Bucket, config: LoraConfig, version: int, previous: LoRARequest | None
) -> LoRARequest:
    """Replace the adapter of an idle vLLM engine.

    Args:
        engine: A vLLM engine (v1 `LLMEngine`) with no running request.
        bucket: The adapter's tensors.
        config: The adapter's rank, scale and layers.
        version: Policy version.
        previous: What this function returned for the adapter loaded now; None if there is none.

    Returns:
        The adapter as generation requests have to name it from now on.

    Raises:
        ConfigError: vLLM has no adapters for a layer that the learner trains one for.
    """
    with TemporaryDirectory(prefix="tlpo-adapter-") as folder:
        write_adapter(bucket, config, Path(folder))
        # vLLM reserves id 0 for "no adapter" and takes an id it knows for the same adapter: every version needs a new
        # one.
        adapter = LoRARequest(f"version-{version}", version + 1, folder)
        if previous is not None:
            engine.remove_lora(previous.lora_int_id)
        try:
            engine.add_lora(adapter)
        except ValueError as error:
            raise ConfigError(
                f"vLLM cannot load the adapter ({first_line(error)}): change learner.lora.targets"
            ) from error
    return adapter


class LayerwiseReceiver(WeightTransferEngine[Any, Any]):  # type: ignore[misc]
    """Base of our receivers: loads weights in checkpoint form, layer by layer, as they arrive."""

    def start_weight_update(self) -> None:
        _forget_packed_experts(self.model)
        initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        _pack_embeddings_when_used(self.model)

    def refuse_stale_weights(self) -> None:
        """Check, when everything has arrived, that it has reached every weight.

        Raises:
            ConfigError: vLLM keeps old weights.
        """
        if stale := _stale_weights(self.model):
            raise ConfigError(
                f"vLLM {vllm.__version__} keeps the old values of {len(stale)} weights of this model in a weight sync, "
                f"such as {stale[0]}: set rollout.engine=transformers, or train an adapter of other layers with "
                f"learner.lora"
            )

    def init_transfer_engine(self, init_info: Any) -> None:
        _pack_embeddings_when_used(self.model)

    def shutdown(self) -> None: ...


@dataclass
class BucketInitInfo(WeightTransferInitInfo):  # type: ignore[misc]
    """Nothing: a bucket arrives as an argument and needs no connection."""


@dataclass
class BucketUpdateInfo(WeightTransferUpdateInfo):  # type: ignore[misc]
    """One bucket of weights."""

    bucket: Bucket = field(default_factory=list)
    is_last: bool = False
    """Whether the update is complete with it."""


class BucketReceiver(LayerwiseReceiver):
    """Loads buckets that are passed to it one at a time."""

    init_info_cls, update_info_cls = BucketInitInfo, BucketUpdateInfo

    def receive_weights(self, update_info: BucketUpdateInfo) -> None:
        self.model.load_weights([(name, from_wire(array)) for name, array in update_info.bucket])
        if update_info.is_last:
            self.refuse_stale_weights()


@dataclass
class GlooInitInfo(WeightTransferInitInfo):  # type: ignore[misc]
    """Address and size of a gloo broadcast group; fields as in vLLM's NCCL engine, plus the deadline."""

    master_address: str
    master_port: int
    rank_offset: int
    """Rank in the group of this engine's first process; 0 for the sender."""
    world_size: int
    deadline_s: float
    """How long to wait for the other members, in seconds."""


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):  # type: ignore[misc]
    """Tensors that a broadcast will bring, in that order."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class GlooReceiver(LayerwiseReceiver):
    """The CPU counterpart of vLLM's NCCL engine: receives broadcast tensors over gloo."""

    init_info_cls, update_info_cls = GlooInitInfo, GlooUpdateInfo
    _group: Any = None

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        super().init_transfer_engine(init_info)
        self._group = _gloo_group(init_info, init_info.rank_offset)

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            _broadcast(self._group, tensor)
            self.model.load_weights([(name, tensor)])
        self.refuse_stale_weights()

    def shutdown(self) -> None:
        self._group = None


@dataclass
class GlooSenderInitInfo(TrainerInitInfo):  # type: ignore[misc]
    """What a `GlooSender` is created from."""

    backend: ClassVar[str] = GLOO

    group: GlooInitInfo


class GlooSender(TrainerWeightTransferEngine[GlooSenderInitInfo]):  # type: ignore[misc]
    """The CPU counterpart of vLLM's NCCL sender: broadcasts tensors over gloo."""

    init_info_cls = GlooSenderInitInfo
    _group: Any = None

    @classmethod
    def trainer_init(
        cls, init_info: GlooSenderInitInfo, *, client: Any, source: WeightSource | None = None
    ) -> GlooSender:
        sender = cls(client=client, source=source, is_sender=init_info.is_sender)
        if sender.is_sender:
            sender._group = _gloo_group(init_info.group, rank=0)
        return sender

    def send_weights(self) -> None:
        for _, tensor in self.source:
            if self.is_sender:
                _broadcast(self._group, tensor.cpu().contiguous())

    def shutdown(self) -> None:
        self._group = None


def broadcast_sender(
    rendezvous: Rendezvous,
    rank: int,
    metas: Sequence[TensorMeta],
    tensors: Callable[[], Iterator[tuple[str, Tensor]]],
) -> BroadcastSender:
    """Join a broadcast group as the learner; every learner rank must call it, and rank 0 waits for all receivers.

    Args:
        rendezvous: Address and size of the group.
        rank: This learner rank.
        metas: Metadata of what `tensors` yields on rank 0.
        tensors: Returns an iterator over the current weights. It is exhausted on every rank, because gathering the
            weights is a collective.
    """
    register()
    address: dict[str, Any] = {
        "master_address": rendezvous.address,
        "master_port": rendezvous.port,
        "world_size": rendezvous.size,
    }
    if rendezvous.backend == "nccl":
        info: TrainerInitInfo = NCCLTrainerInitInfo(rank=rank, packed=True, **address)
    else:
        group = GlooInitInfo(rank_offset=0, deadline_s=rendezvous.deadline_s, **address)
        info = GlooSenderInitInfo(rank=rank, group=group)
    sender: BroadcastSender = WeightTransferTrainerFactory.trainer_init(
        info, client=NoClient(), source=GatheredWeights(metas, tensors)
    )
    return sender


class GatheredWeights(WeightSource):  # type: ignore[misc]
    """A training engine's weights in the form that vLLM's sender expects."""

    def __init__(self, metas: Sequence[TensorMeta], tensors: Callable[[], Iterator[tuple[str, Tensor]]]) -> None:
        self._metas, self._tensors = metas, tensors

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(meta.name, getattr(torch, meta.dtype), meta.shape) for meta in self._metas]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self._tensors()


class NoClient:
    """A client that does nothing.

    vLLM's sender would use it to call the receivers; here the driver calls both sides, and neither has a handle of the
    other.
    """

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


def _gloo_group(info: GlooInitInfo, rank: int) -> Any:
    """Create the broadcast group beside the default one, which belongs to DeepSpeed in the learner and to vLLM in the
    rollout actors."""
    deadline = timedelta(seconds=info.deadline_s)
    store = TCPStore(info.master_address, info.master_port, info.world_size, is_master=rank == 0, timeout=deadline)
    return ProcessGroupGloo(PrefixStore("tlpo", store), rank, info.world_size, deadline)


def _broadcast(group: Any, tensor: Tensor) -> None:
    """Send a tensor from rank 0, or receive it into `tensor` on the other ranks; returns when that is done."""
    options = BroadcastOptions()
    options.rootRank = options.rootTensor = 0
    group.broadcast([tensor], options).wait()


def _stale_weights(model: Any) -> list[str]:
    """Return the names of weights that an update has not reached, before it is finalized.

    Some models of vLLM copy weights past the loaders that a reload watches (the experts of gpt-oss): into a placeholder
    without memory, and silently. Weights that none has are left out: parts that text does not use, tied heads, and what
    attention computes from other weights.
    """
    stale = []
    for name, layer in model.named_modules():
        info = get_layerwise_info(layer)
        is_head = isinstance(layer, VocabParallelEmbedding)
        if not info.can_load() or info.load_numel or is_head or not used_by_text(name):
            continue
        if not is_deferred_attention_layer(layer):
            stale += [f"{name}.{parameter}" for parameter, value in layer._parameters.items() if value is not None]
    return stale


def _forget_packed_experts(model: Any) -> None:
    """Let the reload pack the weights of experts as the first load did.

    On the CPU, a mixture of experts computes with a packed copy of its weights, too. vLLM makes it together with the
    kernel and never again: a reload would put weights that are not packed into its place, and vLLM would compute with
    them as if they were. Without a kernel, it makes both anew. On a GPU nothing is packed, and captured graphs refer to
    the kernel's tensors.
    """
    if current_platform.is_cpu():
        for module in model.modules():
            method: Any = getattr(module, "quant_method", None)
            if hasattr(method, "moe_kernel"):
                method.moe_kernel = None


def _pack_embeddings_when_used(model: Any) -> None:
    """Pack the weights of embeddings and language-model heads when a linear layer is first computed with them.

    On the CPU, linear layers compute with a packed copy of their weights. vLLM makes one of every embedding, too, which
    only looks rows up: a copy of the vocabulary's vectors that nobody reads. And the reload renews the copy of every
    layer that receives weights: a tied head receives none, and would keep computing with the old ones.
    """
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.cpu_linear = partial(_pack_and_apply, module)


def _pack_and_apply(layer: Any, *inputs: Any) -> Tensor:
    layer.quant_method.process_weights_after_loading(layer)  # replaces `cpu_linear` by the kernel of packed weights
    result: Tensor = layer.cpu_linear(*inputs)
    return result
