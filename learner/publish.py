"""A policy version on its way out: buckets of weights and a canary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from learner.batch import pad_contexts
from learner.engine import TrainEngine
from learner.policy import next_token_logp
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.delta import Differ
from tlpo_ray.flow.weights import Bucket, Canary, WeightStep, WeightUpdate, in_buckets, to_wire

CANARY_CANDIDATES = 8
"""Tokens the canary compares: few enough that all are among any actor's most probable ones."""


class Publisher:
    """Policy versions by way of buckets.

    Args:
        max_bytes: of a bucket.
        refresh: versions between two that are sent whole; 0 sends all of them whole.
    """

    def __init__(self, max_bytes: int, refresh: int = 0) -> None:
        self._max_bytes = max_bytes
        self._differ = Differ(refresh) if refresh else None
        self._steps: tuple[WeightStep, ...] = ()

    def update(
        self,
        engine: TrainEngine,
        version: int,
        canary_context: Sequence[int],
        put: Callable[[Bucket], Any] = lambda bucket: bucket,
    ) -> WeightUpdate | None:
        """The engine's weights as policy version `version`; None on ranks other than 0, which must call it too.

        Args:
            canary_context: token ids after which log-probabilities are compared; empty for no canary.
            put: turns a bucket into a reference to it.

        Raises:
            NonFiniteError: a weight is NaN or infinite.
        """
        found = canary(engine, canary_context) if canary_context else None
        on_wire: Iterator[Any] = ((name, to_wire(tensor)) for name, tensor in _finite(engine.tensors()))
        whole = self._differ is None or self._differ.full
        if self._differ is not None:
            on_wire = self._differ.next(on_wire)
        buckets, nbytes = [], 0
        for bucket in in_buckets(on_wire, self._max_bytes):
            nbytes += sum(array.nbytes for _, array in bucket)
            buckets.append(put(bucket))
        if engine.rank != 0:
            return None
        step = WeightStep(version=version, whole=whole, buckets=buckets, nbytes=nbytes)
        self._steps = (step,) if whole else (*self._steps, step)
        return WeightUpdate(version=version, steps=self._steps, canary=found)


def weight_announcement(engine: TrainEngine, version: int, canary_context: Sequence[int]) -> WeightUpdate:
    """Policy version `version` without its weights, which a broadcast will bring; every rank must call it.

    Raises:
        NonFiniteError: a weight is NaN or infinite.
    """
    found = canary(engine, canary_context) if canary_context else None
    for _ in _finite(engine.tensors()):  # before anything is sent: receivers overwrite their weights in place
        pass
    return WeightUpdate(version=version, incoming=engine.metas(), canary=found)


def canary(engine: TrainEngine, context_ids: Sequence[int]) -> Canary:
    """The most probable tokens after a context under the engine's weights; every rank must call it."""
    contexts = pad_contexts([context_ids]).to(engine.device)
    with torch.no_grad():
        top = next_token_logp(engine.policy(), contexts)[0].topk(CANARY_CANDIDATES)
    return Canary(
        context_ids=tuple(context_ids), token_ids=tuple(top.indices.tolist()), logp=tuple(top.values.tolist())
    )


def _finite(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    bad = None
    for name, tensor in tensors:
        # The other ranks gather in step with this one: look at every tensor before saying no.
        if bad is None and not torch.isfinite(tensor).all():
            bad = name
        yield name, tensor
    if bad is not None:
        raise NonFiniteError(f"weight {bad} is not finite; this policy version is not published")
