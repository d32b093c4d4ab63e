"""A policy version on its way from the learner to the rollout actors.

A `WeightUpdate` carries buckets of named tensors in wire form (numpy arrays; bfloat16 as its raw bits in uint16, which
numpy lacks) and a canary: log-probabilities that the receiver must reproduce after it has loaded the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tlpo_ray.errors import WeightSyncError

if TYPE_CHECKING:  # the driver forwards weights without ever reading them, so it need not load torch
    import torch

WireTensor = npt.NDArray[Any]
RECEIVERS = {"object_store": "tlpo_object_store", "gloo": "tlpo_gloo", "nccl": "nccl"}
"""Names in vLLM's registry of receiving engines, by `flow.weight_transfer`; nccl is vLLM's own, the others are ours."""
Bucket = list[tuple[str, WireTensor]]
"""Named tensors under Hugging Face names; tied weights appear once. A `delta.Patch` may take a tensor's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Log-probabilities of the learner's policy after one fixed context.

    Example: 12 context tokens, the 8 most probable next tokens and their natural-log probabilities.
    """

    context_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logp: tuple[float, ...]
    """Natural-log probabilities of `token_ids` after the context."""

    def difference(self, token_ids: Sequence[int], logp: Sequence[float]) -> float:
        """Return the largest absolute difference between the receiver's log-probabilities and the canary's, in nats.

        Args:
            token_ids: Most probable next tokens according to the receiver.
            logp: Their natural-log probabilities.

        Returns:
            Infinity if one of the canary's tokens is missing, or its log-probability is not a number.
        """
        received = dict(zip(token_ids, logp, strict=True))
        differences = [
            abs(received.get(token, math.inf) - expected)
            for token, expected in zip(self.token_ids, self.logp, strict=True)
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
    """Where the members of a broadcast group meet: learner rank 0, and every process of every inference engine."""

    backend: Literal["nccl", "gloo"]
    address: str
    """Host of learner rank 0."""
    port: int
    size: int
    """Number of members, learner rank 0 included."""
    deadline_s: float
    """How long a member waits for the others, in seconds."""


class BroadcastSender(Protocol):
    """The learner's end of a broadcast group. Every learner rank has one and calls the same methods."""

    def send_weights(self) -> object:
        """Send the current weights to all receivers; gathers them from all ranks first, which is a collective."""

    def shutdown(self) -> object:
        """Leave the group."""


class Broadcaster(Protocol):
    """The learner group as the rollout fleet sees it when weights are broadcast."""

    incarnation: int
    """Number of times the group has been restarted: receivers must join again after each."""

    @property
    def learning(self) -> bool:
        """Whether an update is running; a broadcast has to wait for its end."""

    def open_broadcast(self, num_receivers: int) -> tuple[Rendezvous, list[Any]]:
        """Open a broadcast group; returns its address and references that resolve once all members have joined."""

    def broadcast(self) -> list[Any]:
        """Start sending the weights; returns references that resolve once they are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightDelta:
    """The weights of one policy version: all of them, or what has changed since the version before."""

    version: int
    """Policy version that results from applying it."""
    is_full: bool
    """Whether it holds all weights; otherwise only what has changed bit by bit since the delta before."""
    buckets: Sequence[Any]
    """Each a `Bucket`, or a reference that the receiver's transport resolves to one."""
    nbytes: int
    """Total size of all buckets in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUpdate:
    """One policy version to load, with its parameters in the order of the model's."""

    version: int
    deltas: tuple[WeightDelta, ...] = ()
    """Deltas that lead to the version, the first of them full; empty when a broadcast brings the weights."""
    incoming: tuple[TensorMeta, ...] = ()
    """Tensors that a broadcast will bring; empty when `deltas` carry the weights."""
    canary: Canary | None

    def since(self, version: int | None) -> tuple[WeightDelta, ...]:
        """Return the deltas that a receiver at `version` still has to apply.

        Args:
            version: Policy version of the receiver's weights. If no delta ends at it (the receiver is new, or too far
                behind), all deltas are returned: the first of them is full and needs no base.
        """
        for number, delta in enumerate(self.deltas):
            if delta.version == version:
                return self.deltas[number + 1 :]
        return self.deltas


def check_canary(canary: Canary, token_ids: Sequence[int], logp: Sequence[float], tolerance: float) -> float:
    """Compare a receiver's log-probabilities with the canary's and return their largest difference in nats.

    Args:
        canary: What the learner computed.
        token_ids: Most probable next tokens after the canary's context, according to the receiver.
        logp: Their natural-log probabilities.
        tolerance: Largest difference allowed, in nats (`flow.canary_tolerance`).

    Raises:
        WeightSyncError: The difference is larger than `tolerance`.
    """
    difference = canary.difference(token_ids, logp)
    if not difference <= tolerance:  # also true for NaN
        raise WeightSyncError(
            f"after the weight sync a rollout actor's log-probabilities differ from the learner's by {difference:.2g} "
            f"nats (allowed {tolerance:.2g})"
        )
    return difference


def to_wire(tensor: torch.Tensor) -> WireTensor:
    """Return a tensor as a contiguous numpy array on the CPU; bfloat16 as its bits in uint16."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    array = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    return np.asarray(array.numpy())


def from_wire(array: WireTensor) -> torch.Tensor:
    """Return the tensor that `to_wire` was given; it shares memory with `array`."""
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def in_buckets(tensors: Iterable[tuple[str, WireTensor]], max_bytes: int) -> Iterator[Bucket]:
    """Yield named tensors in buckets of at most `max_bytes`; a larger tensor gets a bucket of its own."""
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
