"""Weights into vLLM: the one door to its weight-transfer API, which has changed often.

Two ways: buckets that each engine loads when it is free (`load`), or a broadcast that all receive at once (`join`,
`receive`; the learner's end is `sender`). Nothing here imports vLLM before it is called.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.run import LoraConfig
from tlpo_ray.flow.weights import Bucket, Rendezvous, TensorMeta

if TYPE_CHECKING:
    from torch import Tensor


def register() -> None:
    """Make our receiving engines known to vLLM in this process."""
    from tlpo_ray.flow import vllm_transfer

    vllm_transfer.register()


def prepare(engine: Any) -> None:
    """Set up a vLLM engine (v1 `LLMEngine`) for `load`."""
    # Arrays from the object store are read-only; they are only read.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": {}})


def load(engine: Any, buckets: Iterable[Bucket]) -> None:
    """Replace all weights of an engine that has no request running, one bucket in memory at a time."""
    _replace(engine, ({"bucket": bucket} for bucket in buckets))


def load_adapter(engine: Any, bucket: Bucket, config: LoraConfig, version: int, before: Any) -> Any:
    """Replace an engine's adapter, which has no request running; what requests name from now on to be answered with it.

    Args:
        before: what requests named up to now; None when there was no adapter.
    """
    from tlpo_ray.flow import vllm_transfer

    return vllm_transfer.load_adapter(engine, bucket, config, version, before)


def join(engine: Any, rendezvous: Rendezvous, rank: int) -> None:
    """Meet the learner and the other engines; waits for all of them.

    Args:
        rank: of this engine's first process among all that meet, from 1.
    """
    engine.collective_rpc("shutdown_weight_transfer_engine")  # leaves an earlier meeting, if there was one
    place = {"master_address": rendezvous.address, "master_port": rendezvous.port}
    own = {"packed": True} if rendezvous.backend == "nccl" else {"deadline_s": rendezvous.deadline_s}
    init_info = place | own | {"rank_offset": rank, "world_size": rendezvous.size}
    engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": init_info})


def receive(engine: Any, incoming: Sequence[TensorMeta]) -> None:
    """Replace all weights of an engine that has no request running by those that the learner broadcasts."""
    told = {
        "names": [meta.name for meta in incoming],
        "dtype_names": [meta.dtype for meta in incoming],
        "shapes": [list(meta.shape) for meta in incoming],
    }
    _replace(engine, [told])


def sender(
    rendezvous: Rendezvous,
    rank: int,
    metas: Sequence[TensorMeta],
    tensors: Callable[[], Iterator[tuple[str, Tensor]]],
) -> Any:
    """The learner's end of broadcasts: `send_weights()` and `shutdown()`, both to be called on every learner rank.

    Args:
        rank: of the learner rank; 0 waits here until all receivers have joined.
        metas: what `tensors` yields on rank 0.
        tensors: the current weights; iterated to its end on every rank, because gathering them is a collective.
    """
    from tlpo_ray.flow import vllm_transfer

    return vllm_transfer.sender(rendezvous, rank, metas, tensors)


def _replace(engine: Any, parts: Iterable[dict[str, Any]]) -> None:
    engine.collective_rpc("start_weight_update")
    try:
        for part in parts:
            engine.collective_rpc("update_weights", kwargs={"update_info": part})
    except BaseException:
        with suppress(RuntimeError):  # vLLM itself has ended it, if it was a part that it could not load
            engine.collective_rpc("finish_weight_update")
        raise
    engine.collective_rpc("finish_weight_update")
    # Keys and values cached under the old weights would be answered from: off by nats, and silently.
    assert engine.reset_prefix_cache(), "vLLM's prefix cache could not be reset after a weight sync: a request runs"
