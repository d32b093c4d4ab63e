"""The rollout fleet as a state machine: who may do what, until when, and what follows. It knows neither Ray nor time.

    PENDING ──room──> STARTING ──started──> STALE ──synced──> HEALTHY ──publish──> STALE
       ^                                      └──── silence, a failed request ────> SUSPECT ──canary──> STALE, HEALTHY
       └── back-off is over ── RESTARTING <── death, a missed deadline ── any ── no restart left ──> DEAD

Only a completed weight sync makes a member HEALTHY, and only HEALTHY members get work. A member that has work and has
answered nothing for `heartbeat_s` has to generate the canary: that its process is there says little.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum, auto

from tlpo_ray.config.run import FlowConfig
from tlpo_ray.errors import DeadlineError, TlpoError

LOTS = 2
"""Lots of a member at a time."""
BACKOFF_LIMIT_S = 60.0
DOUBLINGS = 30
"""Of a back-off at most: more than any limit needs, and few enough for a number of seconds."""
ROOM_POLL_S = 0.5
"""How often a member without room looks for it again."""


class State(StrEnum):
    """Where a member of the fleet stands."""

    PENDING = auto()
    STARTING = auto()
    STALE = auto()
    HEALTHY = auto()
    SUSPECT = auto()
    RESTARTING = auto()
    DEAD = auto()


class Kind(StrEnum):
    """What a member can be asked to do; the values read well after "while it was to"."""

    START = "start"
    SYNC = "load a policy version"
    LOT = "roll out a lot"
    ANSWER = "answer prompts"
    MEET = "meet the learner"
    CHECK = "generate the canary"
    SLEEP = "give its GPU's memory back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines and budgets; times in seconds."""

    deadlines: dict[Kind, float]
    lots: int
    """Lots that a member has at a time: the next one's prompts fill the engine while the last one's end."""
    heartbeat_s: float
    """Silence after which a member has to generate the canary."""
    max_restarts: int
    backoff_s: float
    """Before a member's first restart; doubled with each death that follows without finished work between."""
    backoff_limit_s: float
    min_healthy: int
    """Fewest members, dead ones left out, with which it is worth going on."""


def limits(flow: FlowConfig) -> Limits:
    """As a run's configuration has them."""
    return Limits(
        deadlines={
            Kind.START: flow.start_deadline_s,
            Kind.SYNC: flow.sync_deadline_s,
            Kind.LOT: flow.rollout_deadline_s,
            Kind.ANSWER: flow.rollout_deadline_s,
            Kind.MEET: flow.sync_deadline_s,
            Kind.CHECK: flow.heartbeat_s,
            Kind.SLEEP: flow.sync_deadline_s,
        },
        lots=LOTS,
        heartbeat_s=flow.heartbeat_s,
        max_restarts=flow.max_restarts,
        backoff_s=flow.restart_backoff_s,
        backoff_limit_s=BACKOFF_LIMIT_S,
        min_healthy=flow.min_healthy,
    )


@dataclass(slots=True)
class Job:
    """Something a member is doing."""

    kind: Kind
    deadline: float
    version: int | None
    """Policy version that was published when it began."""


@dataclass(slots=True, eq=False)
class Member:
    """One rollout actor, through all of its lives."""

    number: int
    state: State = State.PENDING
    life: int = 0
    """How often it has been restarted."""
    version: int | None = None
    """Policy version after its last completed sync in this life."""
    jobs: dict[Hashable, Job] = field(default_factory=dict)
    heard: float = 0.0
    """When it last finished something."""
    start_at: float = 0.0
    """When to start it, or to look for room again."""
    start_by: float | None = None
    """When a run that cannot start it gives up; none for those that join or come back."""
    deaths_in_a_row: int = 0
    failed_requests: int = 0
    first_lot: float | None = None
    """When it got its first."""
    busy_from: float = 0.0
    """Since when it has had a lot, if it has one."""
    leaving: bool = False
    """Finishes what it does and gets no more."""

    @property
    def name(self) -> str:
        """Of this life: leases are held under it."""
        return f"rollout-{self.number}.{self.life}"

    def doing(self, kind: Kind) -> int:
        """How many jobs of a kind it has."""
        return sum(job.kind is kind for job in self.jobs.values())


class Fleet:
    """All members and their jobs. A job is known by a key of the caller's; its end is told with `done` or `failed`.

    Args:
        size: members at the beginning.
        limits: deadlines and budgets.
        clock: seconds; monotonic.
    """

    def __init__(self, size: int, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._numbers = 0
        self.version: int | None = None
        """Of the published weights."""
        self.members: list[Member] = []
        self.restarts = 0
        self._busy_s = self._there_s = 0.0
        self._alone_since: float | None = None
        """Since when no member is there and those that are to come have no room."""
        self.resize(size)
        for member in self.members:
            member.start_by = clock() + limits.deadlines[Kind.START]

    # What the fleet is to be.

    def resize(self, size: int) -> None:
        """From now on there are to be `size` members: new ones start; of those too many first leave who are not there,
        then the last ones, when they have finished."""
        staying = sorted(self.present(), key=lambda member: member.state in (State.PENDING, State.RESTARTING))
        for member in staying[size:]:
            member.leaving = True
        for _ in range(size - len(staying)):
            self.members.append(Member(number=self._numbers))
            self._numbers += 1

    def publish(self, version: int) -> None:
        """There are new weights: who has others is no longer fit for work."""
        self.version = version
        for member in self.members:
            if member.state is State.HEALTHY:
                member.state = State.STALE

    # What there is to do.

    def to_start(self) -> list[Member]:
        """Members whose process is to be started now, if there is room for it."""
        now = self._clock()
        waiting = (one for one in self.members if one.state in (State.PENDING, State.RESTARTING) and not one.leaving)
        return [member for member in waiting if member.start_at <= now]

    def to_sync(self) -> list[Member]:
        """Members that are to load the published weights and have nothing else to do."""
        return [one for one in self._in(State.STALE) if not one.jobs and not one.leaving and self.version is not None]

    def to_check(self) -> list[Member]:
        """Members that have to generate the canary."""
        silent = self._clock() - self._limits.heartbeat_s
        return [
            member
            for member in self.members
            if (member.state is State.SUSPECT and not member.doing(Kind.CHECK))
            or (self._watched(member) and member.heard <= silent)
        ]

    def to_end(self) -> list[Member]:
        """Members that leave and have nothing to do any more."""
        return [member for member in self.members if member.leaving and not member.jobs]

    def free(self) -> list[Member]:
        """Members that can be sent a lot, the idlest first."""
        able = [one for one in self._in(State.HEALTHY) if not one.leaving and one.doing(Kind.LOT) < self._limits.lots]
        return sorted(able, key=lambda member: member.doing(Kind.LOT))

    @property
    def quiet(self) -> bool:
        """Whether the process of every expected member is there and nobody does anything."""
        away = (State.PENDING, State.RESTARTING)
        return all(not member.jobs and member.state not in away for member in self.expected())

    @property
    def resting(self) -> bool:
        """Whether every expected member has the published weights and nothing to do."""
        return all(member.state is State.HEALTHY and not member.jobs for member in self.expected())

    def present(self) -> list[Member]:
        """Members that are neither dead for good nor leaving."""
        return [member for member in self.members if member.state is not State.DEAD and not member.leaving]

    def expected(self) -> list[Member]:
        """Of these, those that can be waited for: a joining member may wait for room for ever."""
        return [one for one in self.present() if one.state is not State.PENDING or one.start_by is not None]

    def next_event(self) -> float:
        """When, if nothing happens before, there is something to do."""
        times = [job.deadline for member in self.members for job in member.jobs.values()]
        times += [one.start_at for one in self.members if one.state in (State.PENDING, State.RESTARTING)]
        times += [member.heard + self._limits.heartbeat_s for member in self.members if self._watched(member)]
        return min(times, default=float("inf"))

    @property
    def busy(self) -> float:
        """Share of the time since their first lots that members had one, over all of them; 0 before."""
        now = self._clock()
        busy, there = self._busy_s, self._there_s
        for member in self.members:
            busy += now - member.busy_from if member.doing(Kind.LOT) else 0.0
            there += now - member.first_lot if member.first_lot is not None else 0.0
        return busy / there if there else 0.0

    # What happens.

    def no_room(self, member: Member) -> None:
        """The cluster has no room for a member's process: it waits for a node to come, or for one to have some.

        Raises:
            DeadlineError: the run cannot begin without it, or has no other any more, and has waited long enough.
        """
        now, limit = self._clock(), self._limits.deadlines[Kind.START]
        member.state, member.start_at = State.PENDING, now + ROOM_POLL_S
        if member.start_by is None and self.expected():
            self._alone_since = None
            return
        self._alone_since = now if self._alone_since is None else self._alone_since
        until = member.start_by if member.start_by is not None else self._alone_since + limit
        if now >= until:
            raise DeadlineError(f"the driver waited {limit:g} s for the cluster to have room for {member.name}")

    def begin(self, member: Member, key: Hashable, kind: Kind) -> None:
        """A member has been asked to do something."""
        now = self._clock()
        if not member.jobs:
            member.heard = now
        if kind is Kind.LOT and not member.doing(Kind.LOT):
            member.busy_from = now
            member.first_lot = now if member.first_lot is None else member.first_lot
        member.jobs[key] = Job(kind=kind, deadline=now + self._limits.deadlines[kind], version=self.version)
        if kind is Kind.START:
            member.state = State.STARTING

    def done(self, member: Member, key: Hashable) -> None:
        """It has done it; if that was a sync, its canary was right."""
        job = self._end(member, key)
        kind = job.kind
        if kind is Kind.START:
            member.start_by = None
        if kind is Kind.LOT:
            member.deaths_in_a_row = member.failed_requests = 0
        elif kind is Kind.SYNC:
            member.version = job.version
        elif kind is Kind.SLEEP:
            member.version = None  # weights wake it
            if member.state is State.HEALTHY:
                member.state = State.STALE
        member.heard = self._clock()
        if kind is Kind.START or (kind is Kind.CHECK and member.state is State.SUSPECT):
            member.state = State.STALE
        if member.state is State.STALE and member.version is not None and member.version == self.version:
            member.state = State.HEALTHY

    def dropped(self, member: Member, key: Hashable) -> None:
        """It could not do it, and that is not its fault."""
        self._end(member, key)
        member.heard = self._clock()

    def failed(self, member: Member, key: Hashable) -> bool:
        """It could not do it, but its process is there; whether it is to be lost for it (`lose`)."""
        kind = self._end(member, key).kind
        member.failed_requests += 1
        member.state = State.SUSPECT
        return kind is not Kind.LOT or member.failed_requests > 1

    def overdue(self) -> list[tuple[Member, Kind]]:
        """Members that are to be lost (`lose`) because they did not get done in time, and with what.

        Raises:
            DeadlineError: one did not even start in time; a second try would not either.
        """
        now, found = self._clock(), list[tuple[Member, Kind]]()
        for member in self.members:
            late = next((job for job in member.jobs.values() if job.deadline <= now), None)
            if late is None:
                continue
            if late.kind is Kind.START and member.start_by is not None:
                limit = self._limits.deadlines[Kind.START]
                raise DeadlineError(f"the driver waited {limit:g} s for rollout actor {member.name} to start")
            if late.kind is Kind.CHECK and member.state is not State.SUSPECT:
                member.state = State.SUSPECT  # no more work; the canary may still come
                late.deadline = now + self._limits.deadlines[Kind.CHECK]
            else:
                found.append((member, late.kind))
        return found

    def lose(self, member: Member, why: str, *, counted: bool = True) -> None:
        """A member's process is gone or given up; it starts again after a back-off, if there are restarts left.

        Args:
            why: reads well after the member's name.
            counted: whether it takes one of the restarts; False for who is ended because of another.

        Raises:
            TlpoError: too few members are left to go on.
        """
        for key in tuple(member.jobs):
            self._end(member, key)
        member.version, member.failed_requests = None, 0
        if member.leaving:
            member.state = State.DEAD
            return
        if counted and self.restarts >= self._limits.max_restarts:
            member.state = State.DEAD
            self._close(member)
            left = len(self.present())
            if left < self._limits.min_healthy:
                raise TlpoError(
                    f"rollout actor {member.name} {why}, all {self._limits.max_restarts} restarts (flow.max_restarts) "
                    f"are used up, and {left} rollout actors are left of at least {self._limits.min_healthy} "
                    f"(flow.min_healthy)"
                )
            return
        self.restarts += counted
        wait = min(self._limits.backoff_limit_s, self._limits.backoff_s * 2.0 ** min(member.deaths_in_a_row, DOUBLINGS))
        member.deaths_in_a_row += 1
        member.life += 1
        member.state, member.start_at = State.RESTARTING, self._clock() + wait

    def left(self, member: Member) -> None:
        """A leaving member has ended."""
        self._close(member)
        self.members.remove(member)

    def counts(self) -> dict[State, int]:
        """Members by state."""
        return {state: sum(member.state is state for member in self.members) for state in State}

    def _close(self, member: Member) -> None:
        """It will get no more lots: what it was busy for does not change any more."""
        self._there_s += self._clock() - member.first_lot if member.first_lot is not None else 0.0
        member.first_lot = None

    @staticmethod
    def _watched(member: Member) -> bool:
        """Whether silence means something: its lots leave it time for a canary, and it is not asked for one yet."""
        return member.doing(Kind.LOT) > 0 and not member.doing(Kind.CHECK)

    def _end(self, member: Member, key: Hashable) -> Job:
        job = member.jobs.pop(key)
        if job.kind is Kind.LOT and not member.doing(Kind.LOT):
            self._busy_s += self._clock() - member.busy_from
        return job

    def _in(self, state: State) -> Iterator[Member]:
        return (member for member in self.members if member.state is state)
