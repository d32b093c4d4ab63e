"""The one place that knows vLLM's weight-transfer API, which has changed often.

On every machine weights travel as buckets of wire tensors (Ray's object store); `BACKEND` is the receiving engine for
them, registered with vLLM.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tlpo_ray.flow.weights import Bucket, from_wire

BACKEND = "tlpo_object_store"


def register() -> None:
    """Make `BACKEND` known to vLLM in this process."""
    from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo

    if BACKEND in WeightTransferEngineFactory._registry:
        return

    @dataclass
    class NothingToSetUp(WeightTransferInitInfo):  # type: ignore[misc]
        pass

    @dataclass
    class OneBucket(WeightTransferUpdateInfo):  # type: ignore[misc]
        bucket: Bucket = field(default_factory=list)

    class BucketReceiver(WeightTransferEngine[NothingToSetUp, OneBucket]):  # type: ignore[misc]
        init_info_cls, update_info_cls = NothingToSetUp, OneBucket

        def init_transfer_engine(self, init_info: NothingToSetUp) -> None: ...

        def shutdown(self) -> None: ...

        def start_weight_update(self) -> None:
            from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

            initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: OneBucket) -> None:
            self.model.load_weights([(name, from_wire(array)) for name, array in update_info.bucket])

        def finish_weight_update(self) -> None:
            from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

            finalize_layerwise_reload(self.model, self.model_config)
            _repack_tied_head(self.model)

    WeightTransferEngineFactory.register_engine(BACKEND, BucketReceiver)


def prepare(engine: Any) -> None:
    """Set up the receiving side of a vLLM engine (v1 `LLMEngine`)."""
    # Arrays from the object store are read-only; they are only read.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": {}})


def load(engine: Any, buckets: Iterable[Bucket], version: int) -> None:
    """Replace all weights of a vLLM engine that has no request running, one bucket in memory at a time."""
    engine.collective_rpc("start_weight_update")
    for bucket in buckets:
        engine.collective_rpc("update_weights", kwargs={"update_info": {"bucket": bucket}})
    engine.collective_rpc("finish_weight_update")
    # Keys and values cached under the old weights would be answered from: off by nats, and silently.
    assert engine.reset_prefix_cache(), f"prefix cache not reset after loading policy version {version}"


def _repack_tied_head(model: Any) -> None:
    """On the CPU linear layers keep a packed copy of their weights, which the reload renews for every layer that
    receives some. A tied language-model head receives none and would keep the old ones."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
