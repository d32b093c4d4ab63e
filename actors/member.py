"""Members of the rollout fleet: their states, their jobs, and the limits on both."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto

from actors.progress import RolloutProgress
from tlpo_ray.cluster.progress import ProgressPoll, ask_interval
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
DEADLINE_SETTINGS: Mapping[JobKind, str] = {
    JobKind.START: "flow.start_deadline_s",
    JobKind.SYNC: "flow.sync_deadline_s",
    JobKind.BATCH: "flow.rollout_deadline_s",
    JobKind.GENERATE: "flow.rollout_deadline_s",
    JobKind.JOIN: "flow.sync_deadline_s",
    JobKind.CHECK: "flow.heartbeat_s",
    JobKind.SLEEP: "flow.sync_deadline_s",
}
"""Setting that the deadline of each kind of job comes from."""
OBSERVED = frozenset({JobKind.SYNC, JobKind.BATCH, JobKind.GENERATE, JobKind.CHECK})
"""Kinds of job that show progress: their deadlines count from the last sign of it. All others count from the job's
beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines and budgets of a fleet; times in seconds."""

    deadlines: Mapping[JobKind, float]
    """Maximum time that a job of each kind may take, or, if it is observed, may show no progress."""
    batches_per_actor: int
    """Batches that a member may have at a time."""
    heartbeat_s: float
    """Time without progress after which a member with work has to generate the canary."""
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
            deadlines={kind: getattr(flow, key.removeprefix("flow.")) for kind, key in DEADLINE_SETTINGS.items()},
            batches_per_actor=BATCHES_PER_ACTOR,
            heartbeat_s=flow.heartbeat_s,
            max_restarts=flow.max_restarts,
            backoff_s=flow.restart_backoff_s,
            backoff_limit_s=BACKOFF_LIMIT_S,
            min_healthy=flow.min_healthy,
        )

    @property
    def ask_interval_s(self) -> float:
        """Time between two questions for a member's progress."""
        return ask_interval(min(self.heartbeat_s, *(self.deadlines[kind] for kind in OBSERVED)))


@dataclass(slots=True)
class Job:
    """Work that a member is doing."""

    kind: JobKind
    began: float
    """Time at which it began, or at which the job before it ended."""
    deadline: float
    """Time by which it has to be done, or, if it is observed, by which there has to be progress."""
    version: int | None
    """Current policy version when it began."""
    is_reported: bool = False
    """Whether it has been reported as slow."""


@dataclass(slots=True, eq=False)
class Member:
    """One rollout actor, across all of its restarts. Times are those of the fleet's clock, in seconds."""

    number: int
    poll: ProgressPoll
    """Questions for the progress of this incarnation."""
    state: MemberState = MemberState.PENDING
    incarnation: int = 0
    """Number of times it has been restarted."""
    version: int | None = None
    """Policy version after the last completed sync of this incarnation."""
    jobs: dict[Hashable, Job] = field(default_factory=dict)
    """Jobs under way by the caller's keys."""
    last_seen: float = 0.0
    """Time at which it last finished something or its engine advanced, or it got work after being idle."""
    progress: RolloutProgress | None = None
    """What this incarnation has last reported of its work; None before it has."""
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

    def __str__(self) -> str:
        return f"rollout actor {self.name}"

    def num_jobs(self, kind: JobKind) -> int:
        """Return the number of its jobs of a kind."""
        return sum(job.kind is kind for job in self.jobs.values())

    @property
    def is_observed(self) -> bool:
        """Whether it has a job that shows progress."""
        return any(job.kind in OBSERVED for job in self.jobs.values())

    @property
    def waits_for_start(self) -> bool:
        """Whether it has no process: it has not been placed yet, or waits for its restart."""
        return self.state in (MemberState.PENDING, MemberState.RESTARTING)

    def describe_slow(self, job: Job, now: float) -> str:
        """Return what a slow job of this member is about, as a predicate of the member, and what to do."""
        seconds, progress = now - job.began, self.progress
        if job.kind is not JobKind.BATCH or progress is None or not progress.prompts:
            setting = DEADLINE_SETTINGS[job.kind]
            return f"has taken {seconds:.0f} s to {JOB_DESCRIPTIONS[job.kind]} and makes progress: raise {setting}"
        return (
            f"has worked {seconds:.0f} s on a batch of {progress.prompts} prompts and makes progress "
            f"({progress.prompts_done} done, {progress.tokens:,} tokens sampled): lower rollout.lease_size, or raise "
            f"{DEADLINE_SETTINGS[job.kind]}"
        )


def remedy(kind: JobKind) -> str:
    """Return what to do if a member missed the deadline of a job because it is slow."""
    smaller = ", or lower rollout.lease_size" if kind in (JobKind.BATCH, JobKind.CHECK) else ""
    return f"if it was only slow, raise {DEADLINE_SETTINGS[kind]}{smaller}"
