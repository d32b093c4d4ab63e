"""Our engines in vLLM's weight-transfer registry, and the learner's end of broadcasts. Imports vLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
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
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from tlpo_ray.config.run import LoraConfig
from tlpo_ray.flow.lora import write_adapter
from tlpo_ray.flow.weights import RECEIVERS, Bucket, Rendezvous, TensorMeta, from_wire

OBJECT_STORE, GLOO = RECEIVERS["object_store"], RECEIVERS["gloo"]


def register() -> None:
    """Enter our engines into vLLM's registries, once a process."""
    if OBJECT_STORE not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(OBJECT_STORE, BucketReceiver)
        WeightTransferEngineFactory.register_engine(GLOO, GlooReceiver)
        WeightTransferTrainerFactory.register_engine(GLOO, GlooSender)


def load_adapter(
    engine: Any, bucket: Bucket, config: LoraConfig, version: int, before: LoRARequest | None
) -> LoRARequest:
    """See `vllm_weights.load_adapter`."""
    with TemporaryDirectory(prefix="tlpo-adapter-") as folder:
        write_adapter(bucket, config, Path(folder))
        # vLLM takes 0 for no adapter, and one number for one adapter as long as it lives.
        after = LoRARequest(f"version-{version}", version + 1, folder)
        if before is not None:
            engine.remove_lora(before.lora_int_id)
        engine.add_lora(after)
    return after


class LayerwiseReceiver(WeightTransferEngine[Any, Any]):  # type: ignore[misc]
    """Loads weights in checkpoint form, layer by layer."""

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        _repack_tied_head(self.model)

    def init_transfer_engine(self, init_info: Any) -> None: ...

    def shutdown(self) -> None: ...


@dataclass
class NothingToSetUp(WeightTransferInitInfo):  # type: ignore[misc]
    pass


@dataclass
class OneBucket(WeightTransferUpdateInfo):  # type: ignore[misc]
    bucket: Bucket = field(default_factory=list)


class BucketReceiver(LayerwiseReceiver):
    """Is handed one bucket after the other."""

    init_info_cls, update_info_cls = NothingToSetUp, OneBucket

    def receive_weights(self, update_info: OneBucket) -> None:
        self.model.load_weights([(name, from_wire(array)) for name, array in update_info.bucket])


@dataclass
class Meeting(WeightTransferInitInfo):  # type: ignore[misc]
    master_address: str
    master_port: int
    rank_offset: int
    world_size: int
    deadline_s: float


@dataclass
class Announced(WeightTransferUpdateInfo):  # type: ignore[misc]
    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class GlooReceiver(LayerwiseReceiver):
    """What vLLM's NCCL engine does, between CPUs."""

    init_info_cls, update_info_cls = Meeting, Announced
    _group: Any = None

    def init_transfer_engine(self, init_info: Meeting) -> None:
        self._group = _gloo_group(init_info, init_info.rank_offset)

    def receive_weights(self, update_info: Announced) -> None:
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            _broadcast(self._group, tensor)
            self.model.load_weights([(name, tensor)])

    def shutdown(self) -> None:
        self._group = None


@dataclass
class GlooSenderInfo(TrainerInitInfo):  # type: ignore[misc]
    backend: ClassVar[str] = GLOO

    meeting: Meeting


class GlooSender(TrainerWeightTransferEngine[GlooSenderInfo]):  # type: ignore[misc]
    """What vLLM's NCCL sender does, between CPUs."""

    init_info_cls = GlooSenderInfo
    _group: Any = None

    @classmethod
    def trainer_init(cls, init_info: GlooSenderInfo, *, client: Any, source: WeightSource | None = None) -> GlooSender:
        sender = cls(client=client, source=source, is_sender=init_info.is_sender)
        if sender.is_sender:
            sender._group = _gloo_group(init_info.meeting, rank=0)
        return sender

    def send_weights(self) -> None:
        for _, tensor in self.source:
            if self.is_sender:
                _broadcast(self._group, tensor.cpu().contiguous())

    def shutdown(self) -> None:
        self._group = None


def sender(
    rendezvous: Rendezvous,
    rank: int,
    metas: Sequence[TensorMeta],
    tensors: Callable[[], Iterator[tuple[str, Tensor]]],
) -> TrainerWeightTransferEngine[Any]:
    """See `vllm_weights.sender`."""
    register()
    where: dict[str, Any] = {
        "master_address": rendezvous.address,
        "master_port": rendezvous.port,
        "world_size": rendezvous.size,
    }
    if rendezvous.backend == "nccl":
        info: TrainerInitInfo = NCCLTrainerInitInfo(rank=rank, packed=True, **where)
    else:
        info = GlooSenderInfo(rank=rank, meeting=Meeting(rank_offset=0, deadline_s=rendezvous.deadline_s, **where))
    return WeightTransferTrainerFactory.trainer_init(info, client=Detached(), source=Gathered(metas, tensors))


class Gathered(WeightSource):  # type: ignore[misc]
    """A training engine's weights as vLLM's sender wants them."""

    def __init__(self, metas: Sequence[TensorMeta], tensors: Callable[[], Iterator[tuple[str, Tensor]]]) -> None:
        self._metas, self._tensors = metas, tensors

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(meta.name, getattr(torch, meta.dtype), meta.shape) for meta in self._metas]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self._tensors()


class Detached:
    """vLLM's sender would call the receivers itself; here the driver tells both sides, and neither knows the other."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


def _gloo_group(meeting: Meeting, rank: int) -> Any:
    """A group of its own: the default one belongs to DeepSpeed here and to vLLM there."""
    deadline = timedelta(seconds=meeting.deadline_s)
    store = TCPStore(
        meeting.master_address, meeting.master_port, meeting.world_size, is_master=rank == 0, timeout=deadline
    )
    return ProcessGroupGloo(PrefixStore("tlpo", store), rank, meeting.world_size, deadline)


def _broadcast(group: Any, tensor: Tensor) -> None:
    options = BroadcastOptions()
    options.rootRank = options.rootTensor = 0
    group.broadcast([tensor], options).wait()


def _repack_tied_head(model: Any) -> None:
    """On the CPU linear layers keep a packed copy of their weights, which the reload renews for every layer that
    receives some. A tied language-model head receives none and would keep the old ones."""
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
