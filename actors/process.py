"""What runs in a rollout actor's process: a `RolloutWorker` behind Ray's wire, references in and Arrow out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.worker import Answer, build_worker
from tlpo_ray.cluster.hangs import ProcessInfo, register_process
from tlpo_ray.cluster.waiting import wait_for
from tlpo_ray.config.run import DetectorConfig, LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.errors import first_line
from tlpo_ray.flow.records import Prompt, RolloutStats, decode_prompts, encode, encode_results
from tlpo_ray.flow.weights import Rendezvous, WeightUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """All that a rollout actor is made from."""

    model: ModelConfig
    rollout: RolloutConfig
    detector: DetectorConfig
    seed: int
    canary_tolerance: float
    """Nats."""
    weight_transfer: str
    lora: LoraConfig | None
    sync_deadline_s: float
    sleeps: bool = False
    """Whether it shares its GPU with a learner rank."""
    stacks: str | None = None
    """Folder for the stacks of who hangs."""


class LazyBuckets(Sequence[Any]):
    """References resolved one at a time, so that whoever loads a model from them never holds it twice."""

    def __init__(self, refs: Sequence[Any], deadline_s: float) -> None:
        self._refs = refs
        self._deadline_s = deadline_s

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: Any) -> Any:
        return wait_for(self._refs[index], self._deadline_s, who="a rollout actor", what="a bucket of weights")


class RolloutProcess:
    """One rollout actor. Its calls share one thread: each gives way after every turn of the engine."""

    def __init__(self, spec: RolloutSpec, name: str) -> None:
        self._spec = spec
        self._name = name
        self._broken: Exception | None = None

    def where(self) -> ProcessInfo:
        """Where it is; from now on it can be asked where it hangs."""
        return register_process(self._spec.stacks, self._name)

    def setup(self) -> None:
        """Load the model; apart from `__init__`, so that an error comes back as it was raised."""
        spec = self._spec
        self._worker = build_worker(
            spec.model, spec.rollout, spec.detector, spec.seed, spec.weight_transfer, spec.lora, sleeps=spec.sleeps
        )
        self._worker.name = self._name

    async def step(self, prompts: bytes) -> tuple[RolloutStats, tuple[bytes, bytes]]:
        """One lot, beside others: itself in numbers, and its results and groups encoded.

        Args:
            prompts: encoded.
        """
        lot = self._worker.begin(decode_prompts(prompts))
        while not lot.done:
            self._turn()
            await asyncio.sleep(0)
        report = self._worker.finish(lot)
        return report.counts(), (encode_results(report.results), encode(report.groups))

    async def check(self) -> None:
        """Generate the canary; its log-probabilities must be what they were when the weights were loaded."""
        checked = self._worker.begin_check(self._spec.canary_tolerance)
        while not checked():
            self._turn()
            await asyncio.sleep(0)

    def _turn(self) -> None:
        """One turn of the engine. If it breaks, everybody's requests are lost, not only those of who turned it."""
        if self._broken is not None:
            raise RuntimeError(f"the engine broke: {first_line(self._broken)}")
        try:
            self._worker.turn()
        except Exception as error:
            self._broken = error
            raise

    def load(self, update: WeightUpdate) -> float:
        """Load a policy version bucket by bucket; the canary's difference in nats."""
        deadline_s = self._spec.sync_deadline_s
        steps = tuple(replace(step, buckets=LazyBuckets(step.buckets, deadline_s)) for step in update.steps)
        return self._worker.load(replace(update, steps=steps), self._spec.canary_tolerance)

    def sleep(self) -> None:
        """Give the GPU's memory back until weights are next loaded."""
        self._worker.sleep()

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner, so that `load` can take weights from its broadcasts."""
        self._worker.join_broadcast(rendezvous, rank)

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        """Whole answers, for evaluation."""
        return self._worker.answers(prompts, samples, temperature, max_new_tokens, seed)
