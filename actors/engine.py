"""What a rollout actor needs of an inference engine: four questions about the current policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from actors.tasks import T, Task
from tlpo_ray.flow.records import Float32, Int32
from tlpo_ray.flow.weights import Bucket, Rendezvous, TensorMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """One answer to sample. With a seed, an answer depends on nothing but weights, prompt and seed."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    temperature: float
    """0 means greedy."""
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSet:
    """The N most probable next tokens after a context, from the untempered distribution."""

    token_ids: Int32
    """[N] most probable first."""
    logp: Float32
    """[N] natural-log probabilities."""


class Watch(Protocol):
    """Sees an answer grow; decides whether to stop it."""

    def __call__(self, request: int, new_ids: Sequence[int]) -> bool:
        """True aborts request number `request`, which has just grown by `new_ids`."""


class TokenEngine(Protocol):
    """An inference engine with swappable weights.

    Token ids in, token ids out: text, detection and rewards are the caller's.
    """

    max_context: int
    """Most tokens of prompt and answer together."""
    eos_ids: frozenset[int]
    version: int
    """Policy version of the loaded weights."""

    @property
    def kv_use(self) -> float:
        """Share of the KV cache that is in use now; 0 where that is not known."""

    def sample(self, requests: Sequence[SampleRequest], watch: Watch | None = None) -> list[list[int]]:
        """One answer a request, without its end-of-text token.

        An answer stops at that token, at `max_new_tokens`, at the context limit or when `watch` says so.
        """

    def candidates(self, contexts: Sequence[Sequence[int]], n: int) -> list[CandidateSet]:
        """The n most probable next tokens after each context, at temperature 1."""

    def draw(self, contexts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[CandidateSet]:
        """n distinct next tokens drawn from each context's distribution without replacement (multinomial selection)."""

    def extend(self, contexts: Sequence[Sequence[int]], k: int) -> list[list[int]]:
        """Greedy continuation of each context by at most k tokens, without the end-of-text token."""

    def start(self, task: Task[T], ended: Callable[[T], None]) -> None:
        """Begin a task beside those that are under way; `ended` gets what it returns, in some `turn`."""

    def turn(self) -> bool:
        """Serve what the tasks ask for, for as short as possible; False when none is left."""

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        """Replace all weights; whatever was cached under the old ones is forgotten."""

    def close(self) -> None:
        """Free the engine's memory and processes."""


@runtime_checkable
class BroadcastEngine(TokenEngine, Protocol):
    """An engine that can also take its weights from a broadcast."""

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner for `receive_weights`; `rank` is that of this engine's first process, from 1."""

    def receive_weights(self, incoming: Sequence[TensorMeta], version: int) -> None:
        """Replace all weights by those that the learner broadcasts."""


@runtime_checkable
class SleepingEngine(TokenEngine, Protocol):
    """An engine that can give its GPU memory back for a while."""

    def sleep(self) -> None:
        """Weights go into the host's memory, what is cached is forgotten; nothing may be under way."""

    def wake(self) -> None:
        """Be as before; nothing happens to one that is awake."""
