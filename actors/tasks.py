"""Rollouts as generators: each asks the engine for one thing after the other, and the engine serves many at once.

What a rollout needs next depends on what it got: a clean answer needs nothing more, a confused one its candidate set,
and then where the candidates lead. None waits for another: while some are still being sampled, others are probed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from actors.engine import SampleRequest, TokenEngine

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer; the engine gives its token ids, without the end-of-text token."""

    request: SampleRequest
    watch: Callable[[Sequence[int]], bool] | None = None
    """Of the tokens by which the answer has just grown: whether to stop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The n most probable next tokens after a context, as a `CandidateSet`."""

    context: Sequence[int]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """n distinct next tokens drawn without replacement, as a `CandidateSet`."""

    context: Sequence[int]
    n: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Greedy continuations of contexts by at most k tokens, one for each, without the end-of-text token."""

    contexts: Sequence[Sequence[int]]
    k: int


Ask = Sample | Candidates | Draw | Extend
Task = Generator[Ask, Any, T]
"""Yields what it asks for, is sent what it gets, returns what it was about."""


def one_ask(ask: Ask) -> Task[Any]:
    """A task that asks once and returns what it gets."""
    return (yield ask)


def drive_in_rounds(engine: TokenEngine, tasks: Sequence[Task[T]]) -> list[T]:
    """Bring tasks to their end on an engine that serves batches: all that ask for the same thing at a time."""
    results: dict[int, T] = {}
    waiting: dict[int, Ask] = {}

    def resume(number: int, value: Any) -> None:
        try:
            waiting[number] = tasks[number].send(value)
        except StopIteration as end:
            results[number] = end.value

    for number in range(len(tasks)):
        resume(number, None)
    while waiting:
        # Earlier stages first: then as many as possible come together in the later ones.
        kinds = {type(ask) for ask in waiting.values()}
        kind = next(kind for kind in (Sample, Candidates, Draw, Extend) if kind in kinds)
        served = {number: ask for number, ask in waiting.items() if type(ask) is kind}
        for number, value in zip(served, _serve(engine, list(served.values())), strict=True):
            del waiting[number]
            resume(number, value)
    return [results[number] for number in range(len(tasks))]


def _serve(engine: TokenEngine, asks: Sequence[Any]) -> Sequence[Any]:
    """Values of asks of one kind."""
    match asks[0]:
        case Sample():
            return engine.sample([a.request for a in asks], lambda n, ids: bool(asks[n].watch and asks[n].watch(ids)))
        case Candidates(n=n):
            return engine.candidates([ask.context for ask in asks], n)
        case Draw(n=n):
            return engine.draw([ask.context for ask in asks], n, [ask.seed for ask in asks])
        case _:
            tails = iter(engine.extend([context for ask in asks for context in ask.contexts], asks[0].k))
            return [[next(tails) for _ in ask.contexts] for ask in asks]
