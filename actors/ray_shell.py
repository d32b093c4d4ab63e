"""The rollout fleet in Ray: one process per actor, all kept busy from one loop that never waits for a single one.

`fleet.FleetState` decides what may happen, and `jobs.JobRunner` executes its decisions as Ray calls. This module
defines the work: batches from the exchange, policy versions from the learner, answers for an evaluation. An actor that
dies, hangs or fails is replaced while the others continue, and its leases return to the exchange. Only a broadcast of
weights needs all actors at once (`broadcast.BroadcastRound`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from actors.broadcast import BroadcastRound
from actors.completions import Completion
from actors.fleet import FleetState
from actors.jobs import JobRunner
from actors.member import JobKind, Limits, Member
from actors.process import RolloutProcess, RolloutSpec
from actors.vllm_env import vllm_env
from tlpo_ray.cluster.actors import ActorPool
from tlpo_ray.cluster.placement import PlacementPool, bundle
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.run import FlowConfig
from tlpo_ray.errors import TlpoError
from tlpo_ray.flow.records import Prompt, RolloutStats
from tlpo_ray.flow.weights import Broadcaster, WeightUpdate

logger = logging.getLogger(__name__)

GIVE_BACK_S = 5.0
"""Time before the end of a drained node at which its actors give back the prompts that they have not finished."""
MAX_CONCURRENT_CALLS = 8
"""Calls that a rollout actor serves at a time: its batches, a canary, and room to spare."""


class ExchangeClient(Protocol):
    """The rollout actors' side of the exchange."""

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]:
        """Lease one batch of prompts per holder.

        Args:
            holders: Holders that will roll them out: the actors' names including their restart counts.
            num_actors: Actors expected to lease in this window, which is divided evenly among them.

        Returns:
            One encoded batch per holder. Empty if no prompts may be leased now (window exhausted, queue full, or none
            left).
        """

    def submit_batch(self, holder: str, results_ref: Any, learner_version: int) -> None:
        """Submit the results of a finished batch, which ends the lease of its prompts.

        Args:
            holder: Holder that leased the prompts.
            results_ref: Reference to (results, groups), both encoded.
            learner_version: Policy version that the fleet was given last, not counting an update under way; the
                staleness of the groups is measured against it.
        """

    def release(self, holder: str, halve: bool = False) -> int:
        """Release the holder's leases so that the prompts can be leased again; returns how many were released.

        Args:
            holder: Holder that leased them.
            halve: Whether its batches may have been too large: each prompt's next batch is at most half as large.
        """


class RolloutFleet:
    """All rollout actors of a run. They start immediately, and the constructor does not wait for them.

    Args:
        spec: What every actor is made from.
        count: Number of actors.
        flow: Deadlines and the restart budget.
        cluster: What each actor requests from the cluster.
        exchange: Where prompts come from and candidate groups go.
        broadcaster: Learner group that broadcasts weights; None if they travel through the object store.
        pool: Processes; for simulations.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        count: int,
        flow: FlowConfig,
        cluster: ClusterConfig,
        exchange: ExchangeClient,
        broadcaster: Broadcaster | None = None,
        *,
        pool: ActorPool | None = None,
    ) -> None:
        spec = replace(spec, environment=vllm_env(on_gpu=cluster.gpus_per_rollout_actor > 0))
        self._lease_size = spec.rollout.lease_size
        self._flow = flow
        self._exchange = exchange
        self._fleet = FleetState(count, Limits.from_config(flow), time.monotonic)
        self._pool = pool or _actor_pool(spec, cluster)
        self._jobs = JobRunner(
            self._fleet,
            self._pool,
            spec,
            flow.start_deadline_s,
            exchange.release,
            broadcasts=broadcaster is not None,
        )
        self._broadcast: BroadcastRound | None = None
        if broadcaster is not None:
            self._broadcast = BroadcastRound(
                self._fleet,
                self._jobs,
                self._pool,
                broadcaster,
                self._load,
                ranks_per_member=spec.rollout.tensor_parallel,
                deadline_s=flow.sync_deadline_s,
            )
        self._update: WeightUpdate | None = None
        """Weights of the current policy version; None before the first sync."""
        self._stats = RolloutStats()
        """Counts of batches that were finished since the last `advance`."""
        self.canary = 0.0
        """Largest |Δ log-probability| over the canary's tokens in any sync so far, in nats. A sync fails above
        `flow.canary_tolerance`."""
        self.sync_s = 0.0
        """Time in which the slowest actor loaded the current weights, in seconds."""
        self._pool.reserve(self._fleet.members)
        self._jobs.maintain()

    @property
    def num_restarts(self) -> int:
        """Restarts of rollout actors."""
        return self._fleet.num_restarts

    @property
    def size(self) -> int:
        """Number of rollout actors, not counting dead and leaving ones."""
        return len(self._fleet.present())

    @property
    def states(self) -> dict[str, int]:
        """Number of rollout actors by state; states without an actor are left out."""
        return {state.value: count for state, count in self._fleet.count_states().items() if count}

    @property
    def slow(self) -> dict[str, str]:
        """What rollout actors take longer for than its deadline, making progress, and what to do, by their names."""
        return self._jobs.slow

    @property
    def utilization(self) -> float:
        """Share of the rollout actors' time since their first batches in which they had one, 0 to 1."""
        return self._fleet.utilization

    @property
    def weights_lost(self) -> bool:
        """Whether the current weights are gone with the process that held them, and have to be exported again."""
        return self._jobs.weights_lost

    def resize(self, size: int) -> None:
        """Change the number of actors: new ones join when there is room, surplus ones leave when they are idle."""
        self._fleet.resize(size)

    def sync_weights(self, update: WeightUpdate) -> None:
        """Make a policy version the current one; each actor loads it when its batches are finished."""
        self._update = update
        self._jobs.weights_lost, self.sync_s = False, 0.0
        self._fleet.set_version(update.version)

    def advance(self, timeout_s: float, wake: Sequence[Any] = ()) -> RolloutStats:
        """Give every available actor work, and wait until something happens.

        The wait ends early when an actor finishes a call, when a deadline, heartbeat, restart or question for progress
        is due, or when a reference of `wake` resolves. If weights are broadcast and some are due, the broadcast is
        completed first, however long that takes.

        Args:
            timeout_s: Maximum wait in seconds.
            wake: References that also end the wait.

        Returns:
            Counts of the batches that were finished meanwhile; their results are with the exchange.

        Raises:
            TlpoError: Too few actors are left.
            DeadlineError: An actor that the run begins with did not find room, or did not start, in time.
            WeightSyncError: The weights of an actor differ from the learner's.
            LearnerLostError: A learner rank was lost in a broadcast.
        """
        self._leave_draining_nodes()
        self._maintain()
        self._send_batches()
        self._jobs.poll(timeout_s, wake)
        stats, self._stats = self._stats, RolloutStats()
        return stats

    def wait_until_started(self) -> None:
        """Wait until every actor has loaded the model and has no job.

        An actor that joined later and for which the cluster has no room is not waited for.

        Raises:
            TlpoError: The model cannot be loaded, or too few actors are left.
            DeadlineError: An actor that the run begins with did not find room, or did not start, in time.
        """
        self._jobs.wait_until_idle()

    def wait_until_synced(self) -> None:
        """Wait until every actor has loaded the current weights and has no job.

        An actor that joined later and for which the cluster has no room is not waited for.

        Raises:
            TlpoError: The weights are gone with the learner, or too few actors are left.
            DeadlineError: An actor that the run begins with did not find room, or did not start, in time.
            WeightSyncError: The weights of an actor differ from the learner's.
            LearnerLostError: A learner rank was lost in a broadcast.
        """
        while not self._fleet.is_idle_and_synced:
            if self.weights_lost:
                raise TlpoError("the published weights were lost with the learner that held them; run it again")
            self._maintain()
            self._jobs.poll(self._flow.start_deadline_s)

    def generate(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Completion]:
        """Sample complete answers of the current policy, spread over the fleet.

        Before the first `sync_weights` that is the model as the actors have loaded it.

        Args:
            prompts: Prompts in any order.
            samples: Answers per prompt.
            temperature: Sampling temperature; 0 is greedy.
            max_new_tokens: Maximum length of an answer in tokens.
            seed: Seed of the evaluation.

        Returns:
            Completions, ordered by prompt index, then by sample, whichever actors they came from. Prompts that leave no
            room for an answer in the engine's context get no completions.

        Raises:
            TlpoError: An actor was lost, or what `wait_until_synced` raises, or `wait_until_started` before a version.
            DeadlineError: See `wait_until_synced`.
            WeightSyncError: See `wait_until_synced`.
            LearnerLostError: See `wait_until_synced`.
        """
        if self._update is None:
            self.wait_until_started()
        else:
            self.wait_until_synced()
        actors = max(1, len(self._fleet.expected()))
        share = max(1, min(self._lease_size, -(-len(prompts) // actors)))
        parts = deque(prompts[start : start + share] for start in range(0, len(prompts), share))
        completions: list[Completion] = []
        while parts or not self._fleet.is_idle:
            self._jobs.maintain()
            for member in self._fleet.able_to_answer():
                if parts:
                    arguments = (parts.popleft(), samples, temperature, max_new_tokens, seed)
                    call = self._pool[member].generate.remote(*arguments)
                    self._jobs.begin(member, JobKind.GENERATE, call, completions.extend)
            lost = self._jobs.poll(self._flow.rollout_deadline_s)
            if lost:
                raise TlpoError(f"rollout actor {lost[0].name} was lost during an evaluation; run it again")
        return sorted(completions, key=lambda completion: (completion.prompt_index, completion.sample))

    def sleep(self) -> None:
        """Wait until all actors have finished their jobs and released their GPU memory; their next sync wakes them."""
        self._jobs.run_on_all(JobKind.SLEEP, lambda actor: actor.sleep.remote())

    def close(self) -> None:
        """Kill all actors."""
        self._pool.close()

    def _maintain(self) -> None:
        """Do everything that is due, weight syncs included."""
        self._jobs.maintain()
        if self._broadcast is not None:
            if self._fleet.to_sync() and self._broadcast.ready:
                self._broadcast.run()
        elif not self.weights_lost:
            for member in self._fleet.to_sync():
                self._load(member)

    def _leave_draining_nodes(self) -> None:
        """Replace the actors on nodes that are about to be lost; they finish what they can, and give back the rest."""
        for member, left_s in self._pool.draining().items():
            assert isinstance(member, Member)
            if not member.leaving:
                logger.warning("rollout actor %s leaves its node, which is drained", member.name)
                self._fleet.replace(member)
            elif left_s < GIVE_BACK_S and member.jobs:
                why = f"has not finished {GIVE_BACK_S:g} s before its node is lost"
                self._jobs.lose(member, why, counted=False, halve=False)

    def _send_batches(self) -> None:
        """Lease batches for all available actors, one each per round, until they are full or no prompt is left."""
        leased = True
        while leased and (available := self._fleet.available()):
            batches = self._exchange.lease_batches([member.name for member in available], len(self._fleet.expected()))
            leased = any(batches)
            for member, batch in zip(available, batches, strict=True):
                if batch:
                    self._send_batch(member, batch)

    def _send_batch(self, member: Member, batch: bytes) -> None:
        # Two results: the driver reads the counts, and only passes the reference to results and groups on.
        stats_ref, results_ref = self._pool[member].run_batch.options(num_returns=2).remote(batch)
        holder = member.name

        def submit(stats: RolloutStats) -> None:
            assert self._update is not None
            self._exchange.submit_batch(holder, results_ref, self._update.version)
            self._stats += stats

        self._jobs.begin(member, JobKind.BATCH, stats_ref, submit)

    def _load(self, member: Member) -> None:
        """Begin the sync of a member.

        If the update carries only metadata (broadcast), the actor blocks until the broadcast arrives.
        """
        assert self._update is not None
        began = time.monotonic()

        def record(difference: float) -> None:
            self.sync_s = max(self.sync_s, time.monotonic() - began)
            self.canary = max(self.canary, difference)

        self._jobs.begin(member, JobKind.SYNC, self._pool[member].load.remote(self._update), record)


def _actor_pool(spec: RolloutSpec, cluster: ClusterConfig) -> ActorPool:
    """Return the pool of real rollout actors; all processes of an actor's engine are on one node."""
    cpus, gpus = cluster.cpus_per_rollout_actor, cluster.gpus_per_rollout_actor * spec.rollout.tensor_parallel
    options = {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "max_concurrency": MAX_CONCURRENT_CALLS,
    }
    placement = PlacementPool(cluster.rollout_labels, cluster.label_wait_s)
    return ActorPool(RolloutProcess, bundle(cpus, gpus, cluster.rollout_resource), options, placement)
