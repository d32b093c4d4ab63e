"""The two assemblies of a run's parts: `local` in this process, `distributed` over a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.cluster.stacks import remove_empty_dumps
from tlpo_ray.config.run import MIB, RunConfig
from tlpo_ray.data.prompts import PromptSet
from tlpo_ray.errors import LearnerLostError
from tlpo_ray.flow.curriculum import Curriculum
from tlpo_ray.flow.exchange import Exchange, Snapshot
from tlpo_ray.flow.records import Prompt, RolloutStats, decode, encode
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.run.components import Learner, Parts

if TYPE_CHECKING:
    from actors.worker import Answer, RolloutWorker
    from learner.ray_shell import LearnerGroup
    from learner.report import UpdateReport
    from learner.worker import LearnerWorker

logger = logging.getLogger(__name__)

Prepare = Callable[[Learner], None]
STACKS = "stacks"
"""Folder of a run for the stacks of processes that hung."""
CANARY_TOKENS = 32
"""Most context tokens of the canary: enough to pass through every layer, cheap enough for every sync."""


@contextmanager
def assembled(
    config: RunConfig, prompts: PromptSet, begin: Snapshot | None = None, prepare: Prepare = lambda learner: None
) -> Iterator[Parts]:
    """The parts of a run, started and ready; ended when the block ends.

    Args:
        begin: an exchange's snapshot to go on from.
        prepare: brings the learner, which has just started, to the policy version that the fleet is to begin with.

    Raises:
        UserError: a model, a prompt or a resource asked for is not there.
    """
    build = _local if config.stack == "local" else _distributed
    with build(config, prompts, begin, prepare) as parts:
        yield parts


@contextmanager
def _distributed(config: RunConfig, prompts: PromptSet, begin: Snapshot | None, prepare: Prepare) -> Iterator[Parts]:
    from actors.process import RolloutSpec
    from actors.ray_shell import RolloutFleet
    from learner.ray_shell import LearnerGroup
    from tlpo_ray.cluster.connect import ready_for
    from tlpo_ray.flow.ray_shell import RemoteExchange
    from tlpo_ray.run.ray_metrics import RayBoard

    canary_context = _canary_context(config, prompts.prompts)
    with ready_for(config):
        spec = RolloutSpec(
            model=config.model,
            rollout=config.rollout,
            detector=config.detector,
            seed=config.seed,
            canary_tolerance=config.flow.canary_tolerance,
            weight_transfer=config.flow.weight_transfer,
            lora=config.learner.lora,
            sync_deadline_s=config.flow.sync_deadline_s,
            sleeps=config.cluster.colocated,
            stacks=str(config.folder / STACKS),
        )
        # Both groups start at once: loading two engines takes most of a short run.
        fleet = RolloutFleet(spec, config.rollout.num_actors, config.flow, config.cluster)
        if config.cluster.colocated:
            fleet.sleep()  # it has measured how much of the GPU it may have before the learner has taken any
        learner = LearnerGroup(
            config.model, config.learner, config.flow, config.cluster, config.seed, str(config.folder / STACKS)
        )
        if config.flow.weight_transfer != "object_store":
            fleet.broadcaster = learner
        exchange = RemoteExchange(
            prompts.prompts,
            prompts.skipped,
            max_restarts=config.flow.max_restarts,
            begin=begin,
            **_exchange_settings(config),
        )
        try:
            fleet.publish(_begun(learner, prepare, canary_context))
            fleet.settle()
            yield Parts(
                exchange=exchange,
                fleet=fleet,
                learner=learner,
                canary_context=canary_context,
                board=RayBoard(config.name),
            )
        finally:
            with suppress(ConnectionError):
                fleet.close()
                learner.close()
            remove_empty_dumps(config.folder / STACKS)


def _begun(learner: LearnerGroup, prepare: Prepare, canary_context: Sequence[int]) -> WeightUpdate:
    """What the fleet is to begin with; a group that is lost on the way there is started once more."""
    try:
        learner.ready()
        prepare(learner)
        return learner.publish(canary_context)
    except LearnerLostError as error:
        logger.warning("the learner group is started again: %s", error)
        learner.restart()
        prepare(learner)
        return learner.publish(canary_context)


@contextmanager
def _local(config: RunConfig, prompts: PromptSet, begin: Snapshot | None, prepare: Prepare) -> Iterator[Parts]:
    from actors.worker import build_worker
    from learner.worker import build_learner

    rollout = build_worker(config.model, config.rollout, config.detector, config.seed, lora=config.learner.lora)
    learner = build_learner(config.model, config.learner, seed=config.seed)
    exchange = Exchange(prompts.prompts, prompts.skipped, **_exchange_settings(config))
    if begin is not None:
        exchange.restore(begin)
    parts = Parts(
        exchange=exchange,
        fleet=LocalFleet(rollout, config),
        learner=LocalLearner(learner, config),
        canary_context=_canary_context(config, prompts.prompts),
    )
    prepare(parts.learner)
    parts.fleet.publish(parts.learner.publish(parts.canary_context))
    yield parts


class LocalFleet:
    """One rollout worker in this process."""

    restarts = 0
    size = 1
    weights_lost = False
    name = "local"

    def __init__(self, worker: RolloutWorker, config: RunConfig) -> None:
        self._worker = worker
        self._tolerance = config.flow.canary_tolerance
        self.canary = self.sync_s = 0.0
        self._started, self._busy_s = time.monotonic(), 0.0

    @property
    def busy(self) -> float:
        """Share of its time that the worker had work."""
        return self._busy_s / (time.monotonic() - self._started)

    @property
    def states(self) -> dict[str, int]:
        """There is one, and it works."""
        return {"healthy": 1}

    def resize(self, size: int) -> None:
        """It stays what it is."""

    def sleep(self) -> None:
        """Nobody waits for its memory."""

    def publish(self, update: WeightUpdate) -> None:
        began = time.monotonic()
        self.canary = max(self.canary, self._worker.load(update, self._tolerance))
        self.sync_s = time.monotonic() - began

    def advance(self, exchange: Any, timeout_s: float, wake: Sequence[Any] = ()) -> list[RolloutStats]:
        lot = exchange.lease(self.name, 1)
        if not lot:
            return []
        began = time.monotonic()
        report = self._worker.step(lot)
        self._busy_s += time.monotonic() - began
        exchange.submit(self.name, report.results, encode(report.groups), self._worker.version)
        return [report.counts()]

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        return self._worker.answers(prompts, samples, temperature, max_new_tokens, seed)


class LocalLearner:
    """One learner worker in this process."""

    unfinished: tuple[Any, ...] = ()

    def __init__(self, worker: LearnerWorker, config: RunConfig) -> None:
        from learner.publish import Publisher

        self._worker = worker
        self._publisher = Publisher(config.flow.bucket_mib * MIB, config.flow.full_sync_interval)
        self._report: UpdateReport | None = None

    @property
    def version(self) -> int:
        return self._worker.version

    def begin_update(self, payload: bytes, progress: float) -> None:
        self._report = self._worker.update(decode(payload), progress)

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        return self._report

    def publish(self, canary_context: Sequence[int]) -> WeightUpdate:
        update = self._worker.publish(self._publisher, canary_context)
        assert update is not None
        return update

    def save(self, folder: Path, state: dict[str, Any], keep_last: int) -> int:
        return self._worker.save(folder, state, keep_last)

    def restore(self, folder: Path, until: int) -> int:
        return self._worker.restore(folder, until)

    def restart(self) -> None:
        raise AssertionError("it is lost with this process only")

    def export(self, folder: Path) -> None:
        self._worker.export(folder)


def _exchange_settings(config: RunConfig) -> dict[str, Any]:
    curriculum = config.data.curriculum
    return {
        "groups_per_update": config.learner.groups_per_update,
        "lease_size": config.rollout.lease_size,
        "capacity": config.flow.queue_capacity,
        "max_staleness": config.flow.max_staleness,
        "curriculum": None if curriculum is None else Curriculum(curriculum.min_probability, config.seed),
    }


def _canary_context(config: RunConfig, prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Tokens of the run's first prompt, as the policy sees it."""
    from actors.chat import load_tokenizer, prompt_ids

    if not prompts:
        return ()
    tokenizer = load_tokenizer(config.model)
    return tuple(prompt_ids(tokenizer, config.model, prompts[0].text)[-CANARY_TOKENS:])
