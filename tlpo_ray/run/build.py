"""The two assemblies of a run's components: `local` in this process, `distributed` over a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tlpo_ray.cluster.process_log import LOGS, remove_empty
from tlpo_ray.cluster.stacks import STACKS
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, TRAINERS, load_plugin
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.prompts import PromptSet
from tlpo_ray.errors import ConfigError, LearnerLostError, PromptError
from tlpo_ray.flow.curriculum import Curriculum
from tlpo_ray.flow.exchange import Exchange, ExchangeSettings, Snapshot
from tlpo_ray.flow.metrics import Values
from tlpo_ray.flow.records import Prompt
from tlpo_ray.flow.truncation import truncation_of
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.run.components import Components, Fleet, Learner
from tlpo_ray.stopping import stop_requested

if TYPE_CHECKING:
    from actors.engine import TokenEngine
    from actors.process import RolloutSpec
    from learner.engine import TrainEngine
    from learner.ray_shell import LearnerGroup
    from tlpo_ray.cluster.nodes import NodeWatch

logger = logging.getLogger(__name__)

Prepare = Callable[[Learner], None]
Examine = Callable[[Fleet], None]
CANARY_TOKENS = 32
"""Most context tokens of the canary: enough to pass through every layer, cheap enough for every sync."""


def check_engines(config: RunConfig) -> None:
    """Refuse a rollout engine or a trainer that cannot do what the configuration asks of it, before anything starts.

    The configuration itself refuses our own by name; other packages' can only be asked once they are imported.

    Raises:
        ConfigError: One of them needs another stack, cannot receive broadcasts, or runs on a single rank only.
    """
    engine: type[TokenEngine] = load_plugin(ROLLOUT_ENGINES, config.rollout.engine)
    trainer: type[TrainEngine] = load_plugin(TRAINERS, config.learner.engine)
    if config.stack == "local" and engine.needs_own_process:
        raise ConfigError(
            f"rollout.engine {config.rollout.engine} needs a process of its own, and stack is local: set "
            f"stack=distributed, or rollout.engine=transformers"
        )
    if config.flow.weight_transfer != "object_store" and not engine.supports_broadcast:
        raise ConfigError(
            f"flow.weight_transfer is {config.flow.weight_transfer}, and rollout.engine {config.rollout.engine} cannot "
            f"receive broadcasts: set flow.weight_transfer=object_store"
        )
    if config.stack == "distributed" and config.learner.num_ranks > 1 and not trainer.is_distributed:
        raise ConfigError(
            f"learner.engine {config.learner.engine} runs on one rank, and learner.num_ranks is "
            f"{config.learner.num_ranks}: set learner.num_ranks=1, or learner.engine=deepspeed"
        )


def can_examine_early(config: RunConfig) -> bool:
    """Return whether the fleet of a run can answer before it has the learner's weights.

    The local stack starts everything at once, and an engine that shares a GPU sleeps while the learner starts.
    """
    return config.stack == "distributed" and not config.cluster.colocated


@contextmanager
def build_components(
    config: RunConfig,
    prompts: PromptSet,
    begin: Snapshot | None = None,
    prepare: Prepare = lambda learner: None,
    examine: Examine | None = None,
) -> Iterator[Components]:
    """Start the components of a run; they end with the block.

    Args:
        config: The run's configuration.
        prompts: The run's prompts.
        begin: Snapshot of an exchange to resume from.
        prepare: Brings the learner, which has just started, to the policy version that the fleet is to begin with.
        examine: Called with the fleet once it can answer with the weights of the model folder, before it has those of
            the learner, which may not have started yet; see `can_examine_early`.

    Yields:
        The components, with the learner's weights loaded into every rollout actor.

    Raises:
        UserError: A model, a prompt or a resource that the configuration names does not exist.
    """
    if config.stack == "local":
        assert examine is None, "can_examine_early"
        build = _local(config, prompts, begin, prepare)
    else:
        build = _distributed(config, prompts, begin, prepare, examine)
    with build as components:
        yield components


@contextmanager
def _distributed(
    config: RunConfig, prompts: PromptSet, begin: Snapshot | None, prepare: Prepare, examine: Examine | None
) -> Iterator[Components]:
    from actors.ray_shell import RolloutFleet
    from learner.ray_shell import LearnerGroup
    from tlpo_ray.cluster.connect import cluster_cpus, connect_for
    from tlpo_ray.cluster.nodes import NodeWatch
    from tlpo_ray.flow.ray_shell import RemoteExchange

    canary_context = _canary_context(config, prompts.prompts)
    with connect_for(config):
        exchange = RemoteExchange(
            prompts.prompts,
            prompts.skipped,
            max_restarts=config.flow.max_restarts,
            begin=begin,
            **_exchange_settings(config),
        )
        learner = LearnerGroup(
            config.model, config.learner, config.flow, config.cluster, config.seed, str(config.folder)
        )
        broadcaster = learner if config.flow.weight_transfer != "object_store" else None
        spec, num_actors = _rollout_spec(config), config.rollout.num_actors
        fleet = RolloutFleet(spec, num_actors, config.flow, config.cluster, exchange, broadcaster)
        if config.cluster.colocated:
            fleet.sleep()  # the engine has to measure its share of the GPU before the learner takes any of it
        # The examination needs the fleet alone. Where the two groups would take cores from each other while they load,
        # the learner loads during the examination; else both load at once, which is most of a short run.
        learner_waits = examine is not None and cluster_cpus() < _num_processes(config)
        if not learner_waits:
            # Not before the fleet's processes start, which reserve their share of the GPUs first.
            learner.start()
        try:
            if examine is not None:
                fleet.wait_until_started()
                if learner_waits:
                    learner.start()
                examine(fleet)
            fleet.sync_weights(_initial_weights(learner, prepare, canary_context))
            fleet.wait_until_synced()
            nodes = NodeWatch()
            yield Components(
                exchange=exchange,
                fleet=fleet,
                learner=learner,
                canary_context=canary_context,
                on_metrics=_every_second(config.name, nodes),
                on_failure=nodes.look_at_last,
            )
        finally:
            if not stop_requested():  # else the end of the connection ends all processes: Ray may be gone, and hang
                with suppress(ConnectionError):
                    fleet.close()
                    learner.close()
            for name in (LOGS, STACKS):
                remove_empty(config.folder / name)


def _every_second(run: str, nodes: NodeWatch) -> Callable[[Values], None]:
    """Return what a run in Ray does with its metrics, about once per second; nodes are looked after on the way."""
    from tlpo_ray.run.ray_metrics import RayMetrics

    metrics = RayMetrics(run)

    def report(values: Values) -> None:
        metrics.set(values)
        nodes.look()

    return report


def _num_processes(config: RunConfig) -> int:
    """Return the number of rollout actors and learner ranks of a run."""
    return config.rollout.num_actors + config.learner.num_ranks


def _rollout_spec(config: RunConfig) -> RolloutSpec:
    from actors.process import RolloutSpec

    return RolloutSpec(
        model=config.model,
        rollout=config.rollout,
        detector=config.detector,
        seed=config.seed,
        canary_tolerance=config.flow.canary_tolerance,
        weight_transfer=config.flow.weight_transfer,
        lora=config.learner.lora,
        sync_deadline_s=config.flow.sync_deadline_s,
        sleeps=config.cluster.colocated,
        run_folder=str(config.folder),
    )


def _initial_weights(learner: LearnerGroup, prepare: Prepare, canary_context: Sequence[int]) -> WeightUpdate:
    """Return the weights that the fleet begins with; a group that is lost on the way is restarted once.

    This restart is free: only the loop, which has not started, spends `flow.max_restarts`.
    """
    try:
        learner.ready()
        prepare(learner)
        return learner.export_weights(canary_context)
    except LearnerLostError as error:
        logger.warning("restarting the learner group: %s", error, extra={"error": error})
        learner.restart()
        learner.ready()
        prepare(learner)
        return learner.export_weights(canary_context)


@contextmanager
def _local(config: RunConfig, prompts: PromptSet, begin: Snapshot | None, prepare: Prepare) -> Iterator[Components]:
    from actors.worker import build_worker
    from learner.worker import build_learner
    from tlpo_ray.run.local import LocalFleet, LocalLearner

    rollout = build_worker(config.model, config.rollout, config.detector, config.seed, lora=config.learner.lora)
    learner = LocalLearner(build_learner(config.model, config.learner, seed=config.seed), config)
    exchange = Exchange(prompts.prompts, prompts.skipped, **_exchange_settings(config))
    if begin is not None:
        exchange.restore(begin)
    fleet = LocalFleet(rollout, exchange, config)
    canary_context = _canary_context(config, prompts.prompts)
    prepare(learner)
    fleet.sync_weights(learner.export_weights(canary_context))
    yield Components(exchange=exchange, fleet=fleet, learner=learner, canary_context=canary_context)


def _exchange_settings(config: RunConfig) -> ExchangeSettings:
    curriculum = config.data.curriculum
    return {
        "groups_per_update": config.learner.groups_per_update,
        "lease_size": config.rollout.lease_size,
        "capacity": config.flow.queue_capacity,
        "max_staleness": config.flow.max_staleness,
        "curriculum": None if curriculum is None else Curriculum(curriculum.min_probability, config.seed),
        "truncation": truncation_of(config.rollout, config.seed),
    }


def _canary_context(config: RunConfig, prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Return the last tokens of the first prompt that the policy can be given; empty for a run without one."""
    from actors.chat import encode_prompt
    from tlpo_ray.flow.tokenizer import load_tokenizer

    for prompt in prompts:
        with suppress(PromptError):  # it will be skipped
            return tuple(encode_prompt(load_tokenizer(config.model), config.model, prompt.content)[-CANARY_TOKENS:])
    return ()
