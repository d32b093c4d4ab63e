"""Members of the rollout fleet: their states, their jobs, and the limits on both."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto

from tlpo_ray.config.run import FlowConfig

BATCHES_PER_ACTOR = 2
"""Batches of an actor at a time. With one, the engine would run nearly empty while the longest answers of a batch end:
the prompts of a second one fill it. More would only make groups older by the time they are learned from."""
BACKOFF_LIMIT_S = 60.0
"""Maximum wait before a restart, in seconds."""


class MemberState(StrEnum):
    """State of a member of the fleet; `fleet` draws the transitions."""

    PENDING = auto()
    """The cluster has no room for its process yet."""
    STARTING = auto()
    """Its process loads the model."""
    STALE = auto()
    """Its process is fine, its weights are not the current ones."""
    HEALTHY = auto()
    """It has the current weights and can work."""
    SUSPECT = auto()
    """It missed a heartbeat or failed a job; only the canary clears it."""
    RESTARTING = auto()
    """It waits for the end of its back-off."""
    DEAD = auto()
    """It will not be restarted."""


class JobKind(StrEnum):
    """Kind of work that a member can be given."""

    START = auto()
    SYNC = auto()
    BATCH = auto()
    GENERATE = auto()
    JOIN = auto()
    CHECK = auto()
    SLEEP = auto()


JOB_DESCRIPTIONS: Mapping[JobKind, str] = {
    JobKind.START: "start",
    JobKind.SYNC: "load a policy version",
    JobKind.BATCH: "roll out a batch",
    JobKind.GENERATE: "generate answers",
    JobKind.JOIN: "join the broadcast group",
    JobKind.CHECK: "generate the canary",
    JobKind.SLEEP: "release its GPU memory",
}
"""What a member does, for messages such as "rollout actor … could not …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines and budgets of a fleet; times in seconds."""

    deadlines: Mapping[JobKind, float]
    """Maximum time that a job of each kind may take."""
    batches_per_actor: int
    """Batches that a member may have at a time."""
    heartbeat_s: float
    """Time without any finished job after which a member with work has to generate the canary."""
    max_restarts: int
    """Restarts of all members together."""
    backoff_s: float
    """Wait before a member's first restart; doubles with every further death until it finishes work again."""
    backoff_limit_s: float
    """Maximum of this wait."""
    min_healthy: int
    """Minimum number of members, not counting dead ones, with which the run continues."""

    @classmethod
    def from_config(cls, flow: FlowConfig) -> Limits:
        """Return the limits of a run's configuration."""
        return cls(
            deadlines={
                JobKind.START: flow.start_deadline_s,
                JobKind.SYNC: flow.sync_deadline_s,
                JobKind.BATCH: flow.rollout_deadline_s,
                JobKind.GENERATE: flow.rollout_deadline_s,
                JobKind.JOIN: flow.sync_deadline_s,
                JobKind.CHECK: flow.heartbeat_s,
                JobKind.SLEEP: flow.sync_deadline_s,
            },
            batches_per_actor=BATCHES_PER_ACTOR,
            heartbeat_s=flow.heartbeat_s,
            max_restarts=flow.max_restarts,
            backoff_s=flow.restart_backoff_s,
            backoff_limit_s=BACKOFF_LIMIT_S,
            min_healthy=flow.min_healthy,
        )


@dataclass(slots=True)
class Job:
    """Work that a member is doing."""

    kind: JobKind
    deadline: float
    """Time by which it has to be done."""
    version: int | None
    """Current policy version when it began."""


@dataclass(slots=True, eq=False)
class Member:
    """One rollout actor, across all of its restarts. Times are those of the fleet's clock, in seconds."""

    number: int
    state: MemberState = MemberState.PENDING
    incarnation: int = 0
    """Number of times it has been restarted."""
    version: int | None = None
    """Policy version after the last completed sync of this incarnation."""
    jobs: dict[Hashable, Job] = field(default_factory=dict)
    """Jobs under way by the caller's keys."""
    last_seen: float = 0.0
    """Time at which it last finished something, or got work after being idle."""
    start_at: float = 0.0
    """Earliest time to start it, or to look for room again."""
    start_by: float | None = None
    """Latest time for a member that the run begins with; None for one that joins later or restarts."""
    consecutive_deaths: int = 0
    failed_jobs: int = 0
    """Failed jobs since it last finished a batch or died."""
    leaving: bool = False
    """Whether it finishes its jobs, gets no more, and is then removed."""

    @property
    def name(self) -> str:
        """Name including the restart count: the exchange's holder of this incarnation's leases."""
        return f"rollout-{self.number}.{self.incarnation}"

    def num_jobs(self, kind: JobKind) -> int:
        """Return the number of its jobs of a kind."""
        return sum(job.kind is kind for job in self.jobs.values())

    @property
    def waits_for_start(self) -> bool:
        """Whether it has no process: it has not been placed yet, or waits for its restart."""
        return self.state in (MemberState.PENDING, MemberState.RESTARTING)
