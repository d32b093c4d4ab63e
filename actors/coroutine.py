"""Rollouts as coroutines: each yields one engine request after the other, and the engine serves many of them at once.

The next request of a rollout depends on the last result: a clean answer needs nothing more, a confused one its
candidate set, and then the continuations of the candidates. No rollout waits for another: while some answers are still
being sampled, candidates of others are already probed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from actors.engine import TokenEngine
from actors.requests import EngineRequest, SampleRequest, StopCondition

T = TypeVar("T")

RolloutCoroutine = Generator[EngineRequest[Any], Any, T]
"""Generator that yields requests, is sent their results, and returns a value of type T."""


def start(engine: TokenEngine, coroutine: RolloutCoroutine[T], on_done: Callable[[T], None]) -> None:
    """Run a coroutine up to its first request; from then on the engine's steps drive it.

    Args:
        engine: Serves the requests.
        coroutine: Not started yet.
        on_done: Called once with the value that the coroutine returns.
    """
    _advance(engine, coroutine, on_done, None)


def _advance(engine: TokenEngine, coroutine: RolloutCoroutine[T], on_done: Callable[[T], None], result: Any) -> None:
    """Send a coroutine the result of its last request, and submit the next one."""
    # Not a closure that submits itself: such a cycle would keep every rollout, and the engine, until the next
    # collection of garbage.
    try:
        request = coroutine.send(result)
    except StopIteration as end:
        on_done(end.value)
    else:
        engine.submit(request, partial(_advance, engine, coroutine, on_done))


def run_coroutines(engine: TokenEngine, coroutines: Sequence[RolloutCoroutine[T]]) -> list[T]:
    """Run coroutines to the end and return their values in the same order."""
    values: dict[int, T] = {}
    for number, coroutine in enumerate(coroutines):
        start(engine, coroutine, partial(values.__setitem__, number))
    while engine.step():
        pass
    return [values[number] for number in range(len(coroutines))]


def observed(coroutine: RolloutCoroutine[T], on_progress: Callable[[int], None]) -> RolloutCoroutine[T]:
    """Return the same coroutine, reporting the progress of its requests.

    Args:
        coroutine: Not started yet.
        on_progress: Called whenever an answer has grown, with the number of new tokens, and whenever a request is
            done, with 0.
    """
    result: Any = None
    while True:
        try:
            request = coroutine.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        if isinstance(request, SampleRequest):
            request = replace(request, stop_condition=partial(_observe, on_progress, request.stop_condition))
        result = yield request
        on_progress(0)


def _observe(on_progress: Callable[[int], None], stop_condition: StopCondition | None, new_ids: Sequence[int]) -> bool:
    on_progress(len(new_ids))
    return stop_condition is not None and stop_condition(new_ids)
