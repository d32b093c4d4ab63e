"""Rollout actors in Ray: one process each, kept busy from one loop that waits for none of them.

What may happen when is `fleet.Fleet`'s to say; here its wishes become calls, and what comes of them is told to it.
Whoever dies, hangs or errs is replaced; its lease returns and nobody else stops. Only a broadcast of weights needs all
of them at once: who is lost in the middle of one, takes the others with him.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import ObjectLostError, RayTaskError, UnserializableException

from actors.fleet import Fleet, Kind, Member, State, limits
from actors.process import RolloutProcess, RolloutSpec
from actors.vllm_env import vllm_env
from actors.worker import Answer
from tlpo_ray.cluster.hangs import dump_stacks, stacks_if_late
from tlpo_ray.cluster.placement import PlacementPool, bundle
from tlpo_ray.cluster.waiting import LOST, original_error_line, wait_for
from tlpo_ray.config.run import ClusterConfig, FlowConfig
from tlpo_ray.errors import DeadlineError, LearnerLostError, TlpoError, first_line
from tlpo_ray.flow.records import Prompt, RolloutStats
from tlpo_ray.flow.weights import Broadcaster, WeightUpdate

logger = logging.getLogger(__name__)

IDLE_S = 0.05
"""How long a fleet without work waits before it is asked again."""
CALLS = 8
"""Calls that a rollout actor's thread may be amid: its lots, a canary, and room."""

Then = Callable[[Any], None]


class ExchangeClient(Protocol):
    """The rollout actors' side of the exchange."""

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]: ...

    def submit_batch(self, holder: str, lot: Any, learner_version: int) -> None: ...

    def release(self, holder: str) -> int: ...


RolloutActor = ray.remote(RolloutProcess)


class RolloutFleet:
    """All rollout actors of a run.

    Args:
        spec: what every actor is made from.
        count: how many there are.
        flow: deadlines and the restart budget.
        cluster: what each asks of the cluster.
    """

    def __init__(self, spec: RolloutSpec, count: int, flow: FlowConfig, cluster: ClusterConfig) -> None:
        self._spec = spec
        self._flow = flow
        self.broadcaster: Broadcaster | None = None
        """Where weights come from when they are broadcast."""
        self._met: tuple[int, list[str]] | None = None
        """The learner's life, and the names of the actors, that share the current broadcasts."""
        self._desk: ExchangeClient | None = None
        cpus, gpus = cluster.cpus_per_rollout_actor, cluster.gpus_per_rollout_actor * spec.rollout.tensor_parallel
        self._room = bundle(cpus, gpus, cluster.rollout_resource)
        """What an actor needs, all on one node."""
        self._placement = PlacementPool()
        self._options = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": vllm_env(on_gpu=cluster.gpus_per_rollout_actor > 0)},
            "max_concurrency": CALLS,
        }
        self._target: WeightUpdate | None = None
        self._handles: dict[Member, Any] = {}
        self._where: dict[Member, Any] = {}
        """References of where their processes are."""
        self._then: dict[Any, Then] = {}
        self._lots: list[RolloutStats] = []
        self.weights_lost = False
        """Whether the published weights are gone with the process that held them: they must be published again."""
        self.canary = 0.0
        """Largest canary difference of any sync so far, in nats."""
        self.sync_s = 0.0
        """Seconds in which the slowest actor loaded the published weights."""
        self._fleet = Fleet(count, limits(flow), time.monotonic)
        self._placement.reserve(self._fleet.members, self._room)
        self._tend()

    @property
    def restarts(self) -> int:
        """Rollout actors that were started again."""
        return self._fleet.restarts

    def resize(self, size: int) -> None:
        """From now on there are to be `size` actors: new ones join when there is room, others leave when free."""
        self._fleet.resize(size)

    @property
    def states(self) -> dict[str, int]:
        """Actors by what they are at."""
        return {state.value: count for state, count in self._fleet.counts().items() if count}

    @property
    def size(self) -> int:
        """Rollout actors that are there."""
        return len(self._fleet.present())

    @property
    def busy(self) -> float:
        """Share of the rollout actors' time that they had work."""
        return self._fleet.busy

    def publish(self, update: WeightUpdate) -> None:
        """From now on only answers of this policy version are wanted; each actor loads it when it is next free."""
        self._target = update
        self.weights_lost, self.sync_s = False, 0.0
        self._fleet.publish(update.version)

    def advance(self, exchange: ExchangeClient, timeout_s: float, wake: Sequence[Any] = ()) -> list[RolloutStats]:
        """Give work to whoever is free, wait until something happens (`wake` among it) or time is up; finished lots.

        Raises:
            TlpoError: too few actors are left.
            WeightSyncError: an actor's weights differ from the learner's.
        """
        self._desk = exchange
        self._look_after()
        self._send_lots(exchange)
        self._turn(timeout_s, wake)
        lots, self._lots = self._lots, []
        return lots

    def settle(self) -> None:
        """Wait until every actor has the published weights and nothing to do.

        Raises:
            DeadlineError: one did not get there in time.
        """
        while not self._fleet.resting:
            if self.weights_lost:
                raise TlpoError("the published weights were lost with the learner that held them; run it again")
            self._look_after()
            self._turn(self._flow.start_deadline_s)

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        """Whole answers of the published policy, spread over the fleet; in the order of prompts and samples."""
        self.settle()
        actors = max(1, len(self._fleet.expected()))
        share = max(1, min(self._spec.rollout.lease_size, -(-len(prompts) // actors)))
        todo = deque(prompts[start : start + share] for start in range(0, len(prompts), share))
        found: list[Answer] = []
        while todo or not self._fleet.resting:
            self._tend()
            for member in self._fleet.free():
                if todo and not member.jobs:
                    call = self._handles[member].answers.remote(
                        todo.popleft(), samples, temperature, max_new_tokens, seed
                    )
                    self._begin(member, Kind.ANSWER, call, found.extend)
            lost = self._turn(self._flow.rollout_deadline_s)
            if lost:
                raise TlpoError(f"rollout actor {lost[0].name} was lost during an evaluation; run it again")
        return sorted(found, key=lambda answer: (answer.prompt_index, answer.sample))

    def sleep(self) -> None:
        """Everybody ends what he does, and gives his GPU's memory back until he next loads weights."""
        self._all(Kind.SLEEP, lambda actor: actor.sleep.remote())

    def close(self) -> None:
        """End all actors at once."""
        for handle in self._handles.values():
            ray.kill(handle, no_restart=True)
        self._placement.close()

    def _look_after(self) -> None:
        """Starts, ends, canaries and weights that are due."""
        self._tend()
        if self.broadcaster is None:
            for member in self._fleet.to_sync() if not self.weights_lost else ():
                self._load(member)
        elif self._fleet.to_sync() and not self.broadcaster.learning:
            # While it learns, its weights are no published version any more.
            self._broadcast(self.broadcaster)

    def _tend(self) -> None:
        """What needs no weights."""
        for member in self._fleet.to_start():
            if self._has_room(member):
                self._begin(member, Kind.START, self._spawn(member))
            else:
                self._fleet.no_room(member)
        for member in self._fleet.to_check():
            self._begin(member, Kind.CHECK, self._handles[member].check.remote())
        for member in self._fleet.to_end():
            if member in self._handles:
                ray.kill(self._handles.pop(member), no_restart=True)
            self._where.pop(member, None)
            self._placement.release(member)
            self._fleet.left(member)

    def _has_room(self, member: Member) -> bool:
        return self._placement.is_ready(member, self._room)

    def _spawn(self, member: Member) -> Any:
        """Start a member's process; the call that says when it has."""
        options = {
            **self._options,
            "name": f"tlpo-{member.name}",
            "scheduling_strategy": self._placement.strategy(member),
        }
        self._handles[member] = handle = RolloutActor.options(**options).remote(self._spec, member.name)
        self._where[member] = handle.where.remote()
        return handle.setup.remote()

    def _send_lots(self, exchange: ExchangeClient) -> None:
        """Lots to whoever has room for one, a round each, until there are no more."""
        given = True
        while given and (free := self._fleet.free()):
            lots = exchange.lease_batches([member.name for member in free], len(self._fleet.expected()))
            given = any(lots)
            for member, lot in zip(free, lots, strict=True):
                if lot:
                    self._send(member, lot, exchange)

    def _send(self, member: Member, lot: bytes, exchange: ExchangeClient) -> None:
        counts_ref, lot_ref = self._handles[member].step.options(num_returns=2).remote(lot)
        holder = member.name

        def finished(counts: RolloutStats) -> None:
            assert self._target is not None
            exchange.submit_batch(holder, lot_ref, self._target.version)
            self._lots.append(counts)

        self._begin(member, Kind.LOT, counts_ref, finished)

    def _load(self, member: Member) -> None:
        update = self._target
        assert update is not None
        began = time.monotonic()

        def loaded(difference: float) -> None:
            self.sync_s = max(self.sync_s, time.monotonic() - began)
            self.canary = max(self.canary, difference)

        self._begin(member, Kind.SYNC, self._handles[member].load.remote(update), loaded)

    def _begin(self, member: Member, kind: Kind, call: Any, then: Then = lambda value: None) -> None:
        self._fleet.begin(member, call, kind)
        self._then[call] = then

    def _turn(self, timeout_s: float, wake: Sequence[Any] = ()) -> list[Member]:
        """Wait for the first finished call or due event, and handle what is there; the members that were lost."""
        by_call = {call: member for member in self._fleet.members for call in member.jobs}
        until = min(time.monotonic() + timeout_s, self._fleet.next_event())
        if by_call or wake:
            ray.wait([*by_call, *wake], num_returns=1, timeout=max(0.0, until - time.monotonic()))
        else:  # nobody has work: whoever asks again and again must not spin
            time.sleep(max(0.0, min(IDLE_S, until - time.monotonic())))
        ready = ray.wait(list(by_call), num_returns=len(by_call), timeout=0)[0] if by_call else []
        lost = [member for call in ready if (member := by_call[call]) and not self._finish(member, call)]
        with stacks_if_late(self._where.values()):
            overdue = self._fleet.overdue()
        if overdue:
            dump_stacks(self._where.values())
        for member, kind in overdue:
            self._lose(member, f"did not {kind} in time")
            lost.append(member)
        return lost

    def _finish(self, member: Member, call: Any) -> bool:
        """Take the value of a finished call; False if the actor was lost."""
        if call not in member.jobs:
            return True  # lost by another call a moment ago
        kind = member.jobs[call].kind
        try:
            value = ray.get(call)
        except LOST as error:
            self._lose(member, f"died while it was to {kind}: {first_line(error)}")
            return False
        except RayTaskError as error:
            return self._failed(member, call, kind, error.cause)
        except UnserializableException as error:
            return self._failed(member, call, kind, RuntimeError(original_error_line(error)))
        try:
            self._then.pop(call)(value)
        except ObjectLostError as error:
            self._lose(member, f"was lost with a lot that it had finished: {first_line(error)}")
            return False
        self._fleet.done(member, call)
        return True

    def _failed(self, member: Member, call: Any, kind: Kind, cause: BaseException) -> bool:
        """A call raised; False if the actor was lost for it."""
        if kind is Kind.SYNC and isinstance(cause, ObjectLostError):
            self._then.pop(call)
            self._fleet.dropped(member, call)
            self.weights_lost = True
            return True
        why = f"could not {kind}: {first_line(cause)}"
        if self._is_for_the_run(member, kind, cause):
            if kind in (Kind.START, Kind.ANSWER) and not isinstance(cause, TlpoError):
                raise TlpoError(f"rollout actor {member.name} {why} ({type(cause).__name__})") from cause
            raise cause
        logger.warning("rollout actor %s %s", member.name, why)
        self._then.pop(call)
        if self._fleet.failed(member, call):
            self._lose(member, why)
            return False
        if self._desk is not None:
            self._desk.release(member.name)
        return True

    def _is_for_the_run(self, member: Member, kind: Kind, cause: BaseException) -> bool:
        """Whether an error says something about all actors, not about one."""
        if kind is Kind.START:
            return member.start_by is not None  # who joins or comes back may fail by himself
        if kind is Kind.CHECK:
            return False  # the others have the same weights and are right
        together = kind in (Kind.MEET, Kind.SYNC) and self.broadcaster is not None
        ours = isinstance(cause, TlpoError) and not isinstance(cause, DeadlineError)
        return kind is Kind.ANSWER or together or ours

    def _lose(self, member: Member, why: str, *, counted: bool = True) -> None:
        """Its lease returns, its process ends, and it starts again when its back-off is over."""
        if self._desk is not None:
            self._desk.release(member.name)
        for call in member.jobs:
            self._then.pop(call, None)
        ray.kill(self._handles.pop(member), no_restart=True)
        self._where.pop(member, None)
        logger.warning("rollout actor %s %s", member.name, why)
        self._fleet.lose(member, why, counted=counted)
        if member.state is State.DEAD:
            self._placement.release(member)

    def _broadcast(self, broadcaster: Broadcaster) -> None:
        """Everybody finishes what he does, meets the learner if the fleet has changed, and loads its broadcast."""
        while not self._fleet.resting:
            self._all(Kind.CHECK, lambda actor: actor.check.remote())  # a collective waits long for the dead
            members = self._fleet.expected()
            try:
                company = (broadcaster.life, [member.name for member in members])
                if self._met != company:
                    self._meet(broadcaster, members)
                    self._met = company
                sent = broadcaster.broadcast()
                for member in members:
                    self._load(member)
                self._together(sent, "to send its weights")
            except (RuntimeError, DeadlineError, LearnerLostError, *LOST) as error:
                # When one is gone, a collective fails for all, and leaves engines with half of their weights.
                why = f"was in a broadcast of weights that failed: {first_line(error)}"
                learner_lost = isinstance(error, LearnerLostError)
                self._met = None
                for number, member in enumerate(one for one in members if one in self._handles):
                    self._lose(member, why, counted=number == 0 and not learner_lost)
                if learner_lost:
                    raise

    def _all(self, kind: Kind, call: Callable[[Any], Any]) -> None:
        """Wait until nobody does anything, and everybody has done this."""
        lost = True
        while lost:
            self.rest()
            for member in self._fleet.expected():
                self._begin(member, kind, call(self._handles[member]))
            lost = self.rest()

    def _meet(self, broadcaster: Broadcaster, members: Sequence[Member]) -> None:
        processes = self._spec.rollout.tensor_parallel
        rendezvous, opened = broadcaster.open_broadcast(len(members) * processes)
        for number, member in enumerate(members):
            call = self._handles[member].join_broadcast.remote(rendezvous, 1 + number * processes)
            self._begin(member, Kind.MEET, call)
        self._together(opened, "to meet the rollout actors")

    def _together(self, learners: list[Any], what: str) -> None:
        """Wait for both sides of something that all of them do at once."""
        try:
            wait_for(learners, self._flow.sync_deadline_s, who="the driver", what=f"the learner {what}")
        except DeadlineError as error:  # a rank may wait for ever for one that has failed, or for an actor's process
            raise LearnerLostError(str(error)) from error
        except LOST as error:
            raise LearnerLostError(f"a learner rank was lost when it was {what}: {first_line(error)}") from error
        self.rest()

    def rest(self) -> bool:
        """Wait until everybody has started and nobody does anything; whether actors were lost meanwhile."""
        lost = False
        while not self._fleet.quiet:
            self._tend()
            lost = bool(self._turn(self._flow.start_deadline_s)) or lost
        return lost
