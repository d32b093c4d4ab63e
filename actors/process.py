"""The process of a rollout actor: a `RolloutWorker` behind Ray calls, references in and encoded records out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from actors.batch import RolloutBatch
from actors.completions import Completion
from actors.progress import RolloutProgress, rollout_progress
from actors.worker import build_worker
from tlpo_ray.cluster.hangs import ProcessInfo, register_process
from tlpo_ray.cluster.waiting import wait_for
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import first_line
from tlpo_ray.flow.records import Prompt, RolloutStats, decode_prompts, encode, encode_results
from tlpo_ray.flow.weights import Rendezvous, WeightUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """Everything that a rollout actor is made from."""

    model: ModelConfig
    rollout: RolloutConfig
    detector: DetectorConfig
    seed: int
    """Seed of the run."""
    canary_tolerance: float
    """Largest accepted |Δ log-probability| of the canary in nats (`flow.canary_tolerance`)."""
    weight_transfer: str
    """How weights arrive (`flow.weight_transfer`)."""
    lora: LoraConfig | None
    sync_deadline_s: float
    """Maximum wait for a bucket of weights, in seconds."""
    sleeps: bool = False
    """Whether the actor shares its GPU with a learner rank."""
    run_folder: str | None = None
    """The run's folder, for what actors print and for stacks of those that hang; None keeps neither."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the engine's libraries read when they are imported."""


class LazyBuckets(Sequence[Any]):
    """References that are resolved one at a time, so that a process never holds a complete second copy of the model.

    Args:
        refs: References to buckets in the object store.
        deadline_s: Maximum wait for each, in seconds.
        on_arrival: Called whenever one has arrived.
    """

    def __init__(self, refs: Sequence[Any], deadline_s: float, on_arrival: Callable[[], None]) -> None:
        self._refs = refs
        self._deadline_s = deadline_s
        self._on_arrival = on_arrival

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: Any) -> Any:
        bucket = wait_for(self._refs[index], self._deadline_s, who="a rollout actor", what="a bucket of weights")
        self._on_arrival()
        return bucket


class _Work(Protocol):
    """Something that steps of the engine bring to its end."""

    @property
    def done(self) -> bool: ...


class RolloutProcess:
    """One rollout actor. Its calls share one thread, and each yields it after every step of the engine.

    This is how the prompts of a second batch fill the engine while the longest answers of the first one end, and how a
    canary is answered while both are under way. Only `progress` has another thread: a step, or a call that does not
    yield, may take long.
    """

    def __init__(self, spec: RolloutSpec, name: str) -> None:
        # Not by Ray's runtime_env: this way Ray uses a process that is already running. torch is not imported yet.
        os.environ.update(spec.environment)
        self._spec = spec
        self._name = name
        self._broken: Exception | None = None
        """Exception of an engine that has failed."""
        self._batches: list[RolloutBatch] = []
        """Batches that are under way, the one that began first in front."""

    def process_info(self) -> ProcessInfo:
        """Return the location of this process; its output and stacks go to the run's folder from now on."""
        return register_process(self._spec.run_folder, self._name)

    def setup(self) -> None:
        """Load the model. Not in `__init__`, because its errors reach the caller wrapped in those of Ray."""
        spec = self._spec
        self._worker = build_worker(
            spec.model, spec.rollout, spec.detector, spec.seed, spec.weight_transfer, spec.lora, sleeps=spec.sleeps
        )
        self._worker.name = self._name

    async def run_batch(self, prompts: bytes) -> tuple[RolloutStats, tuple[bytes, bytes]]:
        """Roll out one batch beside others.

        Args:
            prompts: Encoded prompts.

        Returns:
            Counts, which the driver reads; and encoded results and candidate groups, which go to the exchange unread.
        """
        batch = self._worker.begin_batch(decode_prompts(prompts))
        self._batches.append(batch)
        try:
            await self._complete(batch)
        finally:
            self._batches.remove(batch)
        report = self._worker.finish_batch(batch)
        return report.stats, (encode_results(report.results), encode(report.groups))

    def progress(self) -> RolloutProgress:
        """Return how long ago the work last advanced, while another call runs."""
        return rollout_progress(self._worker.clock, self._worker.engine, next(iter(self._batches), None))

    async def check_canary(self) -> None:
        """Generate the canary beside the batches that are under way.

        Raises:
            WeightSyncError: Its log-probabilities are not those of the learner.
        """
        await self._complete(self._worker.begin_canary_check(self._spec.canary_tolerance))

    def load(self, update: WeightUpdate) -> float:
        """Load a policy version bucket by bucket, and return the largest |Δ log-probability| of the canary in nats.

        If `update` carries only metadata (broadcast), this blocks until the broadcast arrives.

        Raises:
            WeightSyncError: The canary differs by more than `flow.canary_tolerance`.
        """
        deadline_s = self._spec.sync_deadline_s
        on_arrival = self._worker.clock.note
        deltas = tuple(
            replace(delta, buckets=LazyBuckets(delta.buckets, deadline_s, on_arrival)) for delta in update.deltas
        )
        return self._worker.load(replace(update, deltas=deltas), self._spec.canary_tolerance)

    def sleep(self) -> None:
        """Release the GPU's memory until weights are next loaded."""
        self._worker.sleep()

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Join the learner's broadcast group, so that `load` can receive weights from it."""
        self._worker.join_broadcast(rendezvous, rank)

    def generate(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Completion]:
        """Sample complete answers, for evaluation; prompts that leave no room for one get no completions."""
        return self._worker.generate(prompts, samples, temperature, max_new_tokens, seed)

    async def _complete(self, work: _Work) -> None:
        while not work.done:
            self._step()
            await asyncio.sleep(0)

    def _step(self) -> None:
        """Run one step of the engine.

        If the engine fails, the requests of all calls are lost, not only those of the call that ran the step: each call
        has to fail, instead of waiting forever.
        """
        if self._broken is not None:
            raise RuntimeError(f"the engine failed: {first_line(self._broken)}")
        try:
            self._worker.step()
        except Exception as error:
            self._broken = error
            raise
