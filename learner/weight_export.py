"""Export of a policy version to the rollout actors: buckets of weights and a canary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from learner.batch import pad_contexts
from learner.engine import TrainEngine
from learner.policy import next_token_logp
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.delta import DeltaEncoder
from tlpo_ray.flow.file_layout import PLAIN, FileLayout
from tlpo_ray.flow.weights import Bucket, Canary, WeightDelta, WeightUpdate, in_buckets, to_wire

CANARY_SIZE = 8
"""Number of most probable tokens in the canary. An actor compares them with its own 16 most probable ones
(`actors.canary`): twice as many, because rounding may order tokens of similar probability differently there."""


class WeightExporter:
    """Exports policy versions as buckets, in full or as deltas.

    Args:
        max_bytes: Maximum size of a bucket in bytes (`flow.bucket_mib`).
        full_sync_interval: Delta versions between two that are sent in full; 0 sends every version in full. With
            deltas, a copy of the weights sent last is kept in the host's memory.
    """

    def __init__(self, max_bytes: int, full_sync_interval: int = 0) -> None:
        self._max_bytes = max_bytes
        self._encoder = DeltaEncoder(full_sync_interval) if full_sync_interval else None
        self._deltas: tuple[WeightDelta, ...] = ()
        """Last full version and the deltas since: what an actor that starts now needs."""

    def export(
        self,
        engine: TrainEngine,
        version: int,
        canary_context: Sequence[int],
        put: Callable[[Bucket], Any] = lambda bucket: bucket,
        layout: FileLayout = PLAIN,
    ) -> WeightUpdate | None:
        """Export the engine's weights as policy version `version`; every rank must call it.

        Args:
            engine: Holds the weights.
            version: Policy version.
            canary_context: Token ids after which log-probabilities are compared; empty for no canary.
            put: Turns a bucket into a reference to it, e.g. `ray.put`.
            layout: How the model's files have its weights.

        Returns:
            The update on rank 0; None on the other ranks.

        Raises:
            NonFiniteError: A weight is NaN or infinite.
        """
        canary = make_canary(engine, canary_context) if canary_context else None
        encoded: Iterator[Any] = ((name, to_wire(tensor)) for name, tensor in _check_finite(travelling(engine, layout)))
        # Asked before encoding, which moves on to the version after.
        is_full = self._encoder is None or self._encoder.next_is_full
        if self._encoder is not None:
            encoded = self._encoder.encode(encoded)
        # On every rank: gathering the tensors is a collective. The other ranks receive none and make no buckets.
        buckets, nbytes = [], 0
        for bucket in in_buckets(encoded, self._max_bytes):
            nbytes += sum(array.nbytes for _, array in bucket)
            buckets.append(put(bucket))
        if engine.rank != 0:
            return None
        delta = WeightDelta(version=version, is_full=is_full, buckets=buckets, nbytes=nbytes)
        self._deltas = (delta,) if is_full else (*self._deltas, delta)
        return WeightUpdate(version=version, deltas=self._deltas, canary=canary)


def travelling(engine: TrainEngine, layout: FileLayout) -> Iterator[tuple[str, Tensor]]:
    """Yield the engine's weights as they travel: as the model's files have them, its constants last.

    Every rank must exhaust it; only rank 0 receives tensors.
    """
    yield from layout.in_files(engine.tensors())
    if engine.rank == 0:
        yield from layout.constants.items()


def announce_weights(
    engine: TrainEngine, version: int, canary_context: Sequence[int], layout: FileLayout = PLAIN
) -> WeightUpdate:
    """Return policy version `version` without its weights, which a broadcast will bring; every rank must call it.

    Args:
        engine: Holds the weights.
        version: Policy version.
        canary_context: Token ids after which log-probabilities are compared; empty for no canary.
        layout: How the model's files have its weights.

    Raises:
        NonFiniteError: A weight is NaN or infinite.
    """
    canary = make_canary(engine, canary_context) if canary_context else None
    # Checked here and not while sending: receivers overwrite their weights in place, so a broadcast cannot be undone.
    for _ in _check_finite(travelling(engine, layout)):
        pass
    return WeightUpdate(version=version, incoming=layout.metas_in_files(engine.tensor_metas()), canary=canary)


def make_canary(engine: TrainEngine, context_ids: Sequence[int]) -> Canary:
    """Return the most probable tokens after a context under the engine's weights; every rank must call it."""
    contexts = pad_contexts([context_ids]).to(engine.device)
    with torch.no_grad():
        top = next_token_logp(engine.policy(), contexts)[0].topk(CANARY_SIZE)
    return Canary(
        context_ids=tuple(context_ids), token_ids=tuple(top.indices.tolist()), logp=tuple(top.values.tolist())
    )


def _check_finite(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    non_finite = None
    for name, tensor in tensors:
        # Raise only after the last tensor: the other ranks gather in step with this one, and would hang otherwise.
        if non_finite is None and not is_finite(tensor):
            non_finite = name
        yield name, tensor
    if non_finite is not None:
        raise NonFiniteError(f"weight {non_finite} is not finite; this policy version is not exported")


def is_finite(tensor: Tensor) -> bool:
    """Return whether no element is NaN or infinite: one pass that allocates nothing, NaN being minimum and maximum."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
