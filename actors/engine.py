"""The contract of an inference engine, as a rollout actor uses it: submit requests, step until they are done.

An engine is a class (`EngineFactory`) under an entry point of the group `tlpo_ray.rollout_engines`. An engine that
serves complete batches, instead of requests that come and go, can implement `submit` and `step` by a `BatchScheduler`.

Example:

    engine = load_plugin(ROLLOUT_ENGINES, "vllm")(model, rollout, EngineOptions(seed=0))
    engine.submit(SampleRequest(prompt_ids=(1, 2), max_new_tokens=8, temperature=0.6, seed=1), on_done=print)
    while engine.step():
        pass
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from actors.requests import EngineRequest
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.weights import Bucket, Rendezvous, TensorMeta

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Settings of an engine that are neither those of its model nor those of its rollouts."""

    seed: int = 0
    """Seed of the run. A request's own seed takes precedence."""
    weight_transfer: str = "object_store"
    """How weights arrive (`flow.weight_transfer`): in buckets, or by a broadcast."""
    lora: LoraConfig | None = None
    """Adapter that is trained; buckets then hold its tensors only."""
    sleeps: bool = False
    """Whether `SleepingEngine.sleep` will be used: some engines allocate memory differently then."""


class TokenEngine(Protocol):
    """An inference engine with replaceable weights."""

    display_name: ClassVar[str]
    """Name as users know it, e.g. vLLM."""
    supports_broadcast: ClassVar[bool]
    """Whether it is a `BroadcastEngine`, which every `flow.weight_transfer` but object_store requires."""
    needs_own_process: ClassVar[bool]
    """Whether it changes the state of its process, or returns GPU memory only when that process ends."""
    max_context: int
    """Maximum length of prompt and answer together, in tokens."""
    eos_ids: frozenset[int]
    """End-of-text tokens."""

    @property
    def version(self) -> int:
        """Policy version of the loaded weights."""

    @property
    def kv_cache_usage(self) -> float:
        """Share of the KV cache that is in use now, 0 to 1; 0 where that is unknown."""

    def submit(self, request: EngineRequest[R], on_done: Callable[[R], None]) -> None:
        """Add a request to those that are being served; returns before it is done.

        Args:
            request: One of the four kinds in `actors.requests`.
            on_done: Called once with the result: from a later `step`, or at once where there is nothing to compute.
                It may submit further requests.
        """

    def step(self) -> bool:
        """Serve the submitted requests for as short a time as possible; return False when none is left."""

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        """Replace all weights, and discard everything that was cached under the old ones."""

    def close(self) -> None:
        """Free the engine's memory and processes."""


@runtime_checkable
class BroadcastEngine(TokenEngine, Protocol):
    """An engine that can also receive its weights by a broadcast."""

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Join the learner's group for `receive_weights`; waits for all members.

        Args:
            rendezvous: Address and size of the group.
            rank: Rank of this engine's first process in the group, from 1. Rank 0 is the learner.
        """

    def receive_weights(self, incoming: Sequence[TensorMeta], version: int) -> None:
        """Replace all weights by those that the learner broadcasts, in the order of `incoming`."""


@runtime_checkable
class SleepingEngine(TokenEngine, Protocol):
    """An engine that can release its GPU memory for a while."""

    def sleep(self) -> None:
        """Move the weights to host memory and discard all caches; no request may be under way."""

    def wake(self) -> None:
        """Undo `sleep`; does nothing to an engine that is awake."""


@runtime_checkable
class DecodingEngine(TokenEngine, Protocol):
    """An engine that can change the logits of each token before it is sampled."""

    @property
    def interventions(self) -> int:
        """Tokens so far before which the rule of a request has changed which one is the most probable."""


@runtime_checkable
class ObservableEngine(TokenEngine, Protocol):
    """An engine that notes when it advances, also for requests that are far from done.

    Of any other engine only the tokens of sampled answers, and requests that are done, show that it works.
    """

    step_clock: WorkClock
    """Noted with every token or, in a long step, every layer of the model; another thread reads it meanwhile."""


class EngineFactory(Protocol):
    """An engine's class, as its entry point names it."""

    display_name: ClassVar[str]
    supports_broadcast: ClassVar[bool]
    needs_own_process: ClassVar[bool]

    def __call__(self, model: ModelConfig, rollout: RolloutConfig, options: EngineOptions) -> TokenEngine:
        """Load the model, and return the engine that holds it as policy version 0.

        Raises:
            ModelError: The model cannot be loaded.
        """


def run_all(engine: TokenEngine, requests: Sequence[EngineRequest[R]]) -> list[R]:
    """Serve requests to the end and return their results in the same order.

    Requests that were submitted before are served as well.
    """
    results: dict[int, R] = {}
    for number, request in enumerate(requests):
        engine.submit(request, partial(results.__setitem__, number))
    while engine.step():
        pass
    return [results[number] for number in range(len(requests))]
