"""Rollouts as generators: each asks the engine for one thing after the other, and the engine serves many at once.

What a rollout needs next depends on what it got: a clean answer needs nothing more, a confused one its candidate set,
and then where the candidates lead. None waits for another: while some are still being sampled, others are probed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
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


def drive(engine: TokenEngine, tasks: Sequence[Task[T]]) -> list[T]:
    """Bring all tasks to their end; what they return, in their order."""
    results: dict[int, T] = {}
    for number, task in enumerate(tasks):
        engine.start(task, partial(results.__setitem__, number))
    while engine.turn():
        pass
    return [results[number] for number in range(len(tasks))]


def resume(task: Task[T], value: Any, asked: Callable[[Ask], None], ended: Callable[[T], None]) -> None:
    """Send a task what it got; it asks for the next thing or ends."""
    try:
        ask = task.send(value)
    except StopIteration as end:
        ended(end.value)
    else:
        asked(ask)


class Rounds:
    """Tasks on an engine that serves batches: a round serves all that ask for the same thing."""

    def __init__(self, engine: TokenEngine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Ask, Callable[[Any], None]]] = []

    def start(self, task: Task[T], ended: Callable[[T], None]) -> None:
        """Begin a task; `ended` gets what it returns."""
        self._go_on(task, ended, None)

    def turn(self) -> bool:
        """Serve a round; False when nobody waits any more."""
        if self._waiting:
            # Earlier stages first: then as many as possible come together in the later ones.
            kinds = {type(ask) for ask, _ in self._waiting}
            kind = next(kind for kind in (Sample, Candidates, Draw, Extend) if kind in kinds)
            served = [entry for entry in self._waiting if type(entry[0]) is kind]
            self._waiting = [entry for entry in self._waiting if type(entry[0]) is not kind]
            for (_, then), value in zip(served, _serve(self._engine, [ask for ask, _ in served]), strict=True):
                then(value)
        return bool(self._waiting)

    def _go_on(self, task: Task[T], ended: Callable[[T], None], value: Any) -> None:
        resume(task, value, lambda ask: self._waiting.append((ask, partial(self._go_on, task, ended))), ended)


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
