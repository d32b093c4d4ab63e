"""The queue in front of an engine that serves batches of one kind of request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from actors.requests import EngineRequest, GreedyRequest, MultinomialRequest, SampleRequest, TopKRequest

R = TypeVar("R")

STAGES = (SampleRequest, TopKRequest, MultinomialRequest, GreedyRequest)
"""Kinds of request in the order in which a rollout makes them."""


class BatchScheduler:
    """Collects requests; every step serves waiting requests of one kind, in their order.

    Args:
        max_sequences: Maximum number of sequences in a step, so that a slow engine has results to show between two
            steps. A request with more of them has a step of its own. None serves all requests of the kind.
    """

    def __init__(self, max_sequences: int | None = None) -> None:
        self._max_sequences = max_sequences
        self._waiting: list[tuple[EngineRequest[Any], Callable[[Any], None]]] = []

    def submit(self, request: EngineRequest[R], on_done: Callable[[R], None]) -> None:
        """Queue a request; `on_done` is called with its result in a later `step`."""
        self._waiting.append((request, on_done))

    def step(self, serve: Callable[[Sequence[Any]], Sequence[Any]]) -> bool:
        """Serve waiting requests of the earliest stage; return False when no request is left.

        Args:
            serve: Returns the results of requests of one kind, in their order. It is not kept: an engine that its
                scheduler refers to would outlive its last user.
        """
        if self._waiting:
            # Earlier stages first: the rollouts that lag behind catch up, and the later stages get large batches.
            kinds = {type(request) for request, _ in self._waiting}
            kind = next(stage for stage in STAGES if stage in kinds)
            same = [entry for entry in self._waiting if type(entry[0]) is kind]
            count = self._count_fitting([request for request, _ in same])
            batch = same[:count]
            self._waiting = [*same[count:], *(entry for entry in self._waiting if type(entry[0]) is not kind)]
            results = serve([request for request, _ in batch])
            for (_, on_done), result in zip(batch, results, strict=True):
                on_done(result)
        return bool(self._waiting)

    def _count_fitting(self, requests: Sequence[EngineRequest[Any]]) -> int:
        """Return how many of the first requests fit into a step, at least one."""
        if self._max_sequences is None:
            return len(requests)
        sizes = (len(request.contexts) if isinstance(request, GreedyRequest) else 1 for request in requests)
        return max(1, sum(total <= self._max_sequences for total in accumulate(sizes)))
