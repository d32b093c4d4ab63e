"""The queue in front of an engine that serves batches of one kind of request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from actors.requests import EngineRequest, GreedyRequest, MultinomialRequest, SampleRequest, TopKRequest

R = TypeVar("R")

STAGES = (SampleRequest, TopKRequest, MultinomialRequest, GreedyRequest)
"""Kinds of request in the order in which a rollout makes them."""


class BatchScheduler:
    """Collects requests; every step serves all waiting requests of one kind."""

    def __init__(self) -> None:
        self._waiting: list[tuple[EngineRequest[Any], Callable[[Any], None]]] = []

    def submit(self, request: EngineRequest[R], on_done: Callable[[R], None]) -> None:
        """Queue a request; `on_done` is called with its result in a later `step`."""
        self._waiting.append((request, on_done))

    def step(self, serve: Callable[[Sequence[Any]], Sequence[Any]]) -> bool:
        """Serve all waiting requests of the earliest stage; return False when no request is left.

        Args:
            serve: Returns the results of requests of one kind, in their order. It is not kept: an engine that its
                scheduler refers to would outlive its last user.
        """
        if self._waiting:
            # Earlier stages first: the rollouts that lag behind catch up, and the later stages get large batches.
            kinds = {type(request) for request, _ in self._waiting}
            kind = next(stage for stage in STAGES if stage in kinds)
            batch = [entry for entry in self._waiting if type(entry[0]) is kind]
            self._waiting = [entry for entry in self._waiting if type(entry[0]) is not kind]
            results = serve([request for request, _ in batch])
            for (_, on_done), result in zip(batch, results, strict=True):
                on_done(result)
        return bool(self._waiting)
