"""Weights into a vLLM engine, through its weight-transfer API, which has changed often: keep all calls to it here.

Two ways: buckets that each engine loads when it is free (`prepare`, `load`), or a broadcast that all engines receive at
once (`join`, `receive`). This module does not import vLLM; what needs its classes is in `vllm_transfer`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from tlpo_ray.flow.weights import Bucket, Rendezvous, TensorMeta


def register() -> None:
    """Register our receiving engines with vLLM in this process.

    vLLM calls it too, through the entry point `vllm.general_plugins`, in every worker process of a tensor-parallel
    engine. It loads that entry point early, hence the late import.
    """
    from tlpo_ray.flow import vllm_transfer

    vllm_transfer.register()


def prepare(engine: Any) -> None:
    """Set up a vLLM engine (v1 `LLMEngine`) for `load`."""
    # Arrays from the object store are read-only, which is all that loading them needs.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": {}})


def load(engine: Any, buckets: Iterable[Bucket]) -> None:
    """Replace all weights of an idle engine, with one bucket in memory at a time.

    Args:
        engine: Must have no running request.
        buckets: All weights; buckets are resolved one after the other.
    """
    last: dict[str, Any] = {"bucket": [], "is_last": True}
    _replace(engine, chain(({"bucket": bucket} for bucket in buckets), [last]))


def join(engine: Any, rendezvous: Rendezvous, rank: int) -> None:
    """Join a broadcast group with the learner and the other engines; blocks until all members have joined.

    Args:
        engine: A vLLM engine.
        rendezvous: Address and size of the group.
        rank: Rank in the group of this engine's first process, from 1.
    """
    engine.collective_rpc("shutdown_weight_transfer_engine")  # leaves the group it joined before, if any
    place = {"master_address": rendezvous.address, "master_port": rendezvous.port}
    own = {"packed": True} if rendezvous.backend == "nccl" else {"deadline_s": rendezvous.deadline_s}
    init_info = place | own | {"rank_offset": rank, "world_size": rendezvous.size}
    engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": init_info})


def receive(engine: Any, incoming: Sequence[TensorMeta]) -> None:
    """Replace all weights of an idle engine with those that the learner broadcasts.

    Args:
        engine: Must have joined the group and have no running request.
        incoming: The tensors that will arrive, in that order.
    """
    update_info = {
        "names": [meta.name for meta in incoming],
        "dtype_names": [meta.dtype for meta in incoming],
        "shapes": [list(meta.shape) for meta in incoming],
    }
    _replace(engine, [update_info])


def _replace(engine: Any, parts: Iterable[dict[str, Any]]) -> None:
    engine.collective_rpc("start_weight_update")
    try:
        for part in parts:
            engine.collective_rpc("update_weights", kwargs={"update_info": part})
    except BaseException:
        # vLLM ends the update itself if it could not load a part; finishing it again then raises RuntimeError.
        with suppress(RuntimeError):
            engine.collective_rpc("finish_weight_update")
        raise
    engine.collective_rpc("finish_weight_update")
    # Keys and values cached under the old weights would be reused: log-probabilities off by nats, without any error.
    assert engine.reset_prefix_cache(), "vLLM's prefix cache cannot be reset after a weight sync: a request is running"
