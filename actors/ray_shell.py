"""Rollout actors in Ray: one process each around a `RolloutWorker`, and the fleet that keeps them busy.

A member of the fleet goes STARTING → STALE → IDLE ⇄ BUSY. Only a completed weight sync makes it IDLE, so an actor
that has just been restarted never answers with old weights. Whoever dies or misses a deadline is replaced; its
lease returns and nobody else stops. Only a broadcast of weights needs all of them at once: who is lost in the middle of
one, takes the others with him.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.vllm_env import vllm_env
from actors.worker import Answer, build_worker
from tlpo_ray.config.run import ClusterConfig, DetectorConfig, FlowConfig, LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.flow.errors import DeadlineError, TlpoError, first_line
from tlpo_ray.flow.ray_shell import wait_for
from tlpo_ray.flow.records import Prompt, PromptResult, RolloutReport, encode
from tlpo_ray.flow.weights import Rendezvous, WeightUpdate

logger = logging.getLogger(__name__)

IDLE_S = 0.05
"""How long a fleet without work waits before it is asked again."""


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


class LeaseDesk(Protocol):
    """The rollout actors' side of the exchange."""

    def lease(self, holder: str, sharers: int) -> list[Prompt]: ...

    def deliver(
        self, holder: str, results: Sequence[PromptResult], payload: Any, learner_version: int
    ) -> tuple[PromptResult, ...]: ...

    def give_back(self, holder: str) -> int: ...


class Broadcaster(Protocol):
    """The learner's side of broadcast weights."""

    @property
    def learning(self) -> bool: ...

    def open_broadcast(self, receivers: int) -> tuple[Rendezvous, list[Any]]: ...

    def broadcast(self) -> list[Any]: ...


class RolloutProcess:
    """A `RolloutWorker` behind Ray's wire: references in, Arrow out."""

    def __init__(self, spec: RolloutSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        """Load the model; apart from `__init__`, so that an error comes back as it was raised."""
        spec = self._spec
        transfer, lora = spec.weight_transfer, spec.lora
        self._worker = build_worker(spec.model, spec.rollout, spec.detector, spec.seed, transfer, lora)

    def ping(self) -> None:
        """Answers if it is alive."""

    def step(self, prompts: Sequence[Prompt]) -> tuple[RolloutReport, bytes]:
        """One lot: the report without its groups, and the groups as an Arrow stream."""
        report = self._worker.step(prompts)
        return replace(report, groups=()), encode(report.groups)

    def load(self, update: WeightUpdate) -> float:
        """Load a policy version bucket by bucket; the canary's difference in nats."""
        steps = tuple(replace(step, buckets=LazyBuckets(step.buckets)) for step in update.steps)
        resolved = replace(update, steps=steps)
        return self._worker.load(resolved, self._spec.canary_tolerance)

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner, so that `load` can take weights from its broadcasts."""
        self._worker.join_broadcast(rendezvous, rank)

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        """Whole answers, for evaluation."""
        return self._worker.answers(prompts, samples, temperature, max_new_tokens, seed)


class LazyBuckets(Sequence[Any]):
    """References resolved one at a time, so that an actor never holds two copies of the model."""

    def __init__(self, refs: Sequence[Any]) -> None:
        self._refs = refs

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: Any) -> Any:
        return ray.get(self._refs[index])


RolloutActor = ray.remote(RolloutProcess)


class State(Enum):
    """Where a member of the fleet stands."""

    STARTING = auto()
    STALE = auto()
    IDLE = auto()
    BUSY = auto()


@dataclass(slots=True)
class Member:
    """One rollout actor as the fleet sees it."""

    name: str
    handle: Any
    state: State = State.STARTING
    version: int | None = None
    """Policy version after its last completed sync."""
    call: Any = None
    """Reference of what it is doing now."""
    then: Callable[[Any], None] | None = None
    """What to do with that call's value."""
    deadline: float = 0.0
    """Seconds on the monotonic clock."""
    task: str = ""


class RolloutFleet:
    """All rollout actors of a run, driven from one loop that never waits for a single one of them.

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
        self._met: list[str] = []
        """Names of the actors that share the current broadcasts."""
        self._desk: LeaseDesk | None = None
        self._options = {
            "num_cpus": cluster.cpus_per_rollout_actor,
            "num_gpus": cluster.gpus_per_rollout_actor * spec.rollout.tensor_parallel,
            "runtime_env": {"env_vars": vllm_env(on_gpu=cluster.gpus_per_rollout_actor > 0)},
        }
        self._target: WeightUpdate | None = None
        self._members: list[Member] = []
        self._reports: list[RolloutReport] = []
        self.restarts = 0
        self.canary = 0.0
        """Largest canary difference of any sync so far, in nats."""
        for number in range(count):
            self._members.append(self._spawn(f"rollout-{number}"))

    def publish(self, update: WeightUpdate) -> None:
        """From now on only answers of this policy version are wanted; each actor loads it when it is next free."""
        self._target = update

    def advance(self, exchange: LeaseDesk, timeout_s: float, wake: Sequence[Any] = ()) -> list[RolloutReport]:
        """Give work to whoever is free, wait until something happens (`wake` among it) or time is up; finished lots.

        Raises:
            TlpoError: more actors died than `flow.max_restarts` allows.
            WeightSyncError: an actor's weights differ from the learner's.
        """
        self._desk = exchange
        self._refresh()
        for member in self._members:
            if member.state is State.IDLE:
                self._send_lot(member, exchange)
        self._turn(timeout_s, wake)
        reports, self._reports = self._reports, []
        return reports

    def settle(self) -> None:
        """Wait until every actor has the published weights and nothing to do.

        Raises:
            DeadlineError: one did not get there in time.
        """
        while any(member.state is not State.IDLE or self._behind(member) for member in self._members):
            self._refresh()
            self._turn(self._flow.start_deadline_s)

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        """Whole answers of the published policy, spread over the fleet; in the order of prompts and samples."""
        share = max(1, min(self._spec.rollout.lot, -(-len(prompts) // len(self._members))))
        todo = deque(prompts[start : start + share] for start in range(0, len(prompts), share))
        found: list[Answer] = []
        self.settle()
        while todo or any(member.state is not State.IDLE for member in self._members):
            for member in self._members:
                if todo and member.state is State.IDLE:
                    part = todo.popleft()
                    call = member.handle.answers.remote(part, samples, temperature, max_new_tokens, seed)
                    self._assign(member, State.BUSY, "answer", self._flow.rollout_deadline_s, call, found.extend)
            lost = self._turn(self._flow.rollout_deadline_s)
            if lost:
                raise TlpoError(f"rollout actor {lost[0].name} was lost during an evaluation; run it again")
        return sorted(found, key=lambda answer: (answer.prompt_index, answer.sample))

    def close(self) -> None:
        """End all actors at once."""
        for member in self._members:
            ray.kill(member.handle, no_restart=True)

    def _spawn(self, name: str) -> Member:
        handle = RolloutActor.options(name=f"tlpo-{name}-{self.restarts}", **self._options).remote(self._spec)
        member = Member(name=f"{name}.{self.restarts}", handle=handle)
        self._assign(member, State.STARTING, "start", self._flow.start_deadline_s, handle.setup.remote())
        return member

    def _behind(self, member: Member) -> bool:
        return self._target is not None and member.version != self._target.version

    def _refresh(self) -> None:
        """Send the published weights to the actors that are free and do not have them."""
        behind = [member for member in self._members if member.call is None and self._behind(member)]
        if self.broadcaster is None:
            for member in behind:
                self._load(member)
        elif behind and not self.broadcaster.learning:  # else its weights are no published version any more
            self._broadcast(self.broadcaster)

    def _broadcast(self, broadcaster: Broadcaster) -> None:
        """Everybody finishes what he does, meets the learner if the fleet has changed, and loads its broadcast."""
        while any(self._behind(member) for member in self._members):
            self._call_roll()
            try:
                if self._met != [member.name for member in self._members]:
                    self._meet(broadcaster)
                sent = broadcaster.broadcast()
                for member in self._members:
                    self._load(member)
                self._together(sent, "to send its weights")
            except (RuntimeError, RayActorError) as error:
                # When one is gone, a collective fails for all, and leaves engines with half of their weights.
                logger.warning("a broadcast of weights failed, all rollout actors are replaced: %s", first_line(error))
                self._met = []
                self._spend_restart(self._members[0])
                for member in tuple(self._members):
                    self._respawn(member)

    def _call_roll(self) -> None:
        """Wait until nobody does anything and everybody answers: a collective waits long for the dead."""
        lost = True
        while lost:
            self._rest()
            for member in self._members:
                call = member.handle.ping.remote()
                self._assign(member, member.state, "answer a roll call", self._flow.sync_deadline_s, call)
            lost = self._rest()

    def _meet(self, broadcaster: Broadcaster) -> None:
        processes = self._spec.rollout.tensor_parallel
        rendezvous, opened = broadcaster.open_broadcast(len(self._members) * processes)
        for number, member in enumerate(self._members):
            call = member.handle.join_broadcast.remote(rendezvous, 1 + number * processes)
            self._assign(member, State.STALE, "meet the learner", self._flow.sync_deadline_s, call)
        self._together(opened, "to meet the rollout actors")
        self._met = [member.name for member in self._members]

    def _together(self, learners: list[Any], what: str) -> None:
        """Wait for both sides of something that all of them do at once."""
        wait_for(learners, self._flow.sync_deadline_s, who="the driver", what=f"the learner {what}")
        self._rest()

    def _rest(self) -> bool:
        """Wait until nobody does anything; whether actors were lost (they have been replaced by then)."""
        lost = False
        while any(member.call is not None for member in self._members):
            lost = bool(self._turn(self._flow.start_deadline_s)) or lost
        return lost

    def _load(self, member: Member) -> None:
        update = self._target
        assert update is not None

        def loaded(difference: float) -> None:
            member.version = update.version
            self.canary = max(self.canary, difference)

        call = member.handle.load.remote(update)
        self._assign(
            member, State.STALE, f"load policy version {update.version}", self._flow.sync_deadline_s, call, loaded
        )

    def _send_lot(self, member: Member, exchange: LeaseDesk) -> None:
        lot = exchange.lease(member.name, len(self._members))
        if not lot:
            return
        report_ref, payload_ref = member.handle.step.options(num_returns=2).remote(lot)

        def done(report: RolloutReport) -> None:
            assert self._target is not None
            exchange.deliver(member.name, report.results, payload_ref, self._target.version)
            self._reports.append(report)

        self._assign(member, State.BUSY, "roll out a lot", self._flow.rollout_deadline_s, report_ref, done)

    def _assign(
        self,
        member: Member,
        state: State,
        task: str,
        deadline_s: float,
        call: Any,
        then: Callable[[Any], None] = lambda value: None,
    ) -> None:
        member.state, member.task, member.call, member.then = state, task, call, then
        member.deadline = time.monotonic() + deadline_s

    def _turn(self, timeout_s: float, wake: Sequence[Any] = ()) -> list[Member]:
        """Wait for the first finished call or deadline, handle what is there; the actors lost."""
        by_call = {member.call: member for member in self._members if member.call is not None}
        if not by_call and not wake:
            time.sleep(min(timeout_s, IDLE_S))  # nobody has work: whoever asks again and again must not spin
            return []
        until = min([time.monotonic() + timeout_s, *(member.deadline for member in by_call.values())])
        ray.wait([*by_call, *wake], num_returns=1, timeout=max(0.0, until - time.monotonic()))
        ready = ray.wait(list(by_call), num_returns=len(by_call), timeout=0)[0] if by_call else []
        lost = [member for call in ready if (member := by_call[call]) and not self._finish(member)]
        now = time.monotonic()
        running = [member for member in by_call.values() if member.call is not None and member not in lost]
        lost += [member for member in running if member.deadline <= now]
        for member in lost:
            self._replace(member)
        return lost

    def _finish(self, member: Member) -> bool:
        """Take the value of a finished call; False if the actor is gone."""
        call, then = member.call, member.then
        assert then is not None
        try:
            value = ray.get(call)
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            logger.warning("rollout actor %s died while it was to %s: %s", member.name, member.task, first_line(error))
            return False
        member.call, member.then = None, None
        then(value)
        member.state = State.STALE if self._behind(member) else State.IDLE
        return True

    def _replace(self, member: Member) -> None:
        if member.state is State.STARTING and member.deadline <= time.monotonic():
            raise DeadlineError(
                f"the driver waited {self._flow.start_deadline_s:g} s for rollout actor {member.name} to start"
            )
        self._spend_restart(member)
        self._respawn(member)

    def _spend_restart(self, member: Member) -> None:
        if self.restarts >= self._flow.max_restarts:
            raise TlpoError(
                f"rollout actor {member.name} was lost while it was to {member.task}, and all "
                f"{self._flow.max_restarts} restarts (flow.max_restarts) are used up"
            )
        self.restarts += 1

    def _respawn(self, member: Member) -> None:
        if self._desk is not None:
            self._desk.give_back(member.name)
        ray.kill(member.handle, no_restart=True)
        logger.warning("rollout actor %s is replaced (restart %d)", member.name, self.restarts)
        self._members[self._members.index(member)] = self._spawn(member.name.split(".")[0])
