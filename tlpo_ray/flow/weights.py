"""What a policy version is on its way from the learner to the rollout actors.

A `WeightUpdate` carries buckets of named tensors in wire form (numpy; bfloat16 as its raw bits in uint16, which
numpy lacks) and a canary: log-probabilities that whoever loaded the weights must reproduce.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tlpo_ray.errors import WeightSyncError

if TYPE_CHECKING:  # the driver carries weights without ever looking at them: it need not load torch
    import torch

WireTensor = npt.NDArray[Any]
RECEIVERS = {"object_store": "tlpo_object_store", "gloo": "tlpo_gloo", "nccl": "nccl"}
"""Names in vLLM's registry of receiving engines, by `flow.weight_transfer`; nccl is vLLM's own, the others are ours."""
Bucket = list[tuple[str, WireTensor]]
"""Named tensors under Hugging Face names; tied weights appear once. A `delta.Patch` may stand for a tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Log-probabilities of the learner's policy after one fixed context.

    Example: 12 context tokens, the 8 most probable next tokens and their natural-log probabilities.
    """

    context_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logp: tuple[float, ...]

    def difference(self, found_ids: Sequence[int], found_logp: Sequence[float]) -> float:
        """Largest |Δ log-probability| over the canary's tokens; infinite if one is missing or not a number."""
        found = dict(zip(found_ids, found_logp, strict=True))
        differences = [
            abs(found.get(token, math.inf) - logp) for token, logp in zip(self.token_ids, self.logp, strict=True)
        ]
        return max((math.inf if math.isnan(value) else value for value in differences), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """Name, dtype (as torch spells it) and full shape of one parameter.

    Example: ``TensorMeta(name="model.norm.weight", dtype="bfloat16", shape=(4096,))``
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where those meet that share a broadcast: learner rank 0, and every process of every inference engine."""

    backend: Literal["nccl", "gloo"]
    address: str
    port: int
    size: int
    deadline_s: float
    """How long one waits for the others."""


class Broadcaster(Protocol):
    """The learner's side of broadcast weights."""

    life: int
    """How often it has been started again: who has met it before, has to meet it anew."""

    @property
    def learning(self) -> bool: ...

    def open_broadcast(self, receivers: int) -> tuple[Rendezvous, list[Any]]: ...

    def broadcast(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightStep:
    """From one policy version to the next, or to a version from nothing."""

    version: int
    whole: bool
    """Whether it brings all weights; otherwise only what has changed since the step before."""
    buckets: Sequence[Any]
    """Each a `Bucket`, or a reference that the receiver's transport resolves to one."""
    nbytes: int
    """Of all buckets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUpdate:
    """One policy version to load, parameters in the order of the model's."""

    version: int
    steps: tuple[WeightStep, ...] = ()
    """That lead to it, the first one whole; none when a broadcast brings the weights."""
    incoming: tuple[TensorMeta, ...] = ()
    """What a broadcast will bring; empty when `steps` carry the weights."""
    canary: Canary | None

    def since(self, version: int | None) -> tuple[WeightStep, ...]:
        """The steps that are left for whoever is at `version`; all of them where it is none of these."""
        for number, step in enumerate(self.steps):
            if step.version == version:
                return self.steps[number + 1 :]
        return self.steps


def check_canary(canary: Canary, found_ids: Sequence[int], found_logp: Sequence[float], tolerance: float) -> float:
    """The canary's difference in nats.

    Raises:
        WeightSyncError: it is larger than `tolerance`.
    """
    difference = canary.difference(found_ids, found_logp)
    if not difference <= tolerance:
        raise WeightSyncError(
            f"after the weight sync a rollout actor's log-probabilities differ from the learner's by {difference:.2g} "
            f"nats (allowed {tolerance:.2g})"
        )
    return difference


def to_wire(tensor: torch.Tensor) -> WireTensor:
    """A tensor as a contiguous numpy array on the CPU; bfloat16 as its bits in uint16."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    array = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    return np.asarray(array.numpy())


def from_wire(array: WireTensor) -> torch.Tensor:
    """Inverse of `to_wire`; shares memory with `array`."""
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def in_buckets(tensors: Iterable[tuple[str, WireTensor]], max_bytes: int) -> Iterator[Bucket]:
    """Tensors in buckets of at most `max_bytes`, except that a larger tensor travels alone."""
    bucket: Bucket = []
    size = 0
    for name, array in tensors:
        if bucket and size + array.nbytes > max_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append((name, array))
        size += array.nbytes
    if bucket:
        yield bucket
