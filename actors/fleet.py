"""The rollout fleet as a state machine: what each member may do, by when, and what follows. It has no clock of its own.

    PENDING ──room──> STARTING ──started──> STALE ──synced──> HEALTHY ──new version──> STALE
       ^                                      └── missed heartbeat, failed job ──> SUSPECT ──canary──> STALE, HEALTHY
       └── back-off is over ── RESTARTING <── death, missed deadline ── any ── no restart left ──> DEAD

Only a completed weight sync makes a member HEALTHY, and only HEALTHY members get prompts of the run; answers for an
evaluation before the first version come from members that have started. A member that has work and shows
no progress for `heartbeat_s` must generate the canary: that its process exists says little about its engine. Deadlines
of work count from the last progress, so a member that is slow is not lost, however long a batch takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from actors.member import OBSERVED, Job, JobKind, Limits, Member, MemberState
from actors.progress import RolloutProgress
from actors.utilization import UtilizationMeter
from tlpo_ray.cluster.progress import ProgressPoll
from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.errors import DeadlineError, TlpoError

MAX_DOUBLINGS = 30
"""Maximum number of doublings of a back-off: more than any limit needs, and few enough for a float."""
ROOM_POLL_S = 0.5
"""How often, in seconds, room is looked for on behalf of a member that has none."""


class FleetState:
    """State machine of the fleet: all members and their jobs.

    The caller starts each job under a key of its own and reports its end by `mark_done`, `mark_failed`, `mark_aborted`
    or, with the member's other jobs, `mark_lost`. Meanwhile it asks the members of `to_ask` for their progress
    (`mark_asked`) and reports their answers by `mark_progress`.

    Args:
        size: Number of members at the beginning.
        limits: Deadlines and budgets.
        clock: Returns seconds; monotonic.
    """

    def __init__(self, size: int, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._next_number = 0
        self._restarts = RestartBudget(limits.max_restarts)
        self._utilization = UtilizationMeter(clock)
        self.version: int | None = None
        """Current policy version, which members have to load."""
        self.members: list[Member] = []
        self._unplaceable_since: float | None = None
        """Time since when no member has a process and the cluster has no room for any."""
        self.resize(size)
        for member in self.members:
            member.start_by = clock() + limits.deadlines[JobKind.START]

    # Requests of the run.

    def resize(self, size: int) -> None:
        """Change the number of members: new ones start, surplus ones leave.

        Members without a process leave first, then those that joined last, once they have finished their jobs.
        """
        staying = sorted(self.present(), key=lambda member: member.waits_for_start)
        for member in staying[size:]:
            member.leaving = True
        for _ in range(size - len(staying)):
            self.members.append(Member(number=self._next_number, poll=self._new_poll()))
            self._next_number += 1

    def replace(self, member: Member) -> None:
        """Let a member leave once it has finished its jobs, and a new one, which costs no restart, take its place."""
        member.leaving = True
        self.resize(len(self.present()) + 1)

    def set_version(self, version: int) -> None:
        """Make a policy version the current one; members with other weights get no work until they have loaded it."""
        self.version = version
        for member in self._in(MemberState.HEALTHY):
            member.state = MemberState.STALE

    # What to do now.

    def to_start(self) -> list[Member]:
        """Return members that should get a process now, if there is room for it."""
        now = self._clock()
        return [m for m in self.members if m.waits_for_start and not m.leaving and m.start_at <= now]

    def to_sync(self) -> list[Member]:
        """Return idle members that should load the current weights."""
        if self.version is None:
            return []
        return [m for m in self._in(MemberState.STALE) if not m.jobs and not m.leaving]

    def to_ask(self) -> list[Member]:
        """Return members that should be asked for their progress now."""
        now = self._clock()
        return [m for m in self.members if m.is_observed and m.poll.is_due(self._passed_limit(m, now), now)]

    def awaited(self) -> list[Member]:
        """Return members whose answer decides whether they have missed a limit that has passed."""
        now = self._clock()
        return [m for m in self.members if m.poll.is_asked and self._passed_limit(m, now) > float("-inf")]

    def to_check(self) -> list[Member]:
        """Return members that should generate the canary now: suspects, and those that missed their heartbeat."""
        return [
            member
            for member in self.members
            if (member.state is MemberState.SUSPECT and not member.num_jobs(JobKind.CHECK))
            or self._missed_heartbeat(member)
        ]

    def to_remove(self) -> list[Member]:
        """Return leaving members that have finished their jobs."""
        return [member for member in self.members if member.leaving and not member.jobs]

    def available(self) -> list[Member]:
        """Return members that can take a batch, those with the fewest first."""
        limit = self._limits.batches_per_actor
        healthy = (member for member in self._in(MemberState.HEALTHY) if not member.leaving)
        able = [member for member in healthy if member.num_jobs(JobKind.BATCH) < limit]
        return sorted(able, key=lambda member: member.num_jobs(JobKind.BATCH))

    def able_to_answer(self) -> list[Member]:
        """Return idle members that have the weights to be examined: before the first version those of the model."""
        state = MemberState.STALE if self.version is None else MemberState.HEALTHY
        return [member for member in self._in(state) if not member.jobs and not member.leaving]

    def next_event(self) -> float:
        """Return the time at which there is something to do if nothing happens before; infinity if there is not."""
        times = [member.start_at for member in self.members if member.waits_for_start]
        # A member that has just been asked for its progress is judged by its answer.
        times += [m.poll.judged_at(limit) for m in self.members for limit in self._progress_limits(m)]
        times += [job.deadline for m in self.members for job in m.jobs.values() if job.kind not in OBSERVED]
        return min(times, default=float("inf"))

    def next_question(self) -> float:
        """Return the time at which the next member should be asked for its progress; infinity if none has work."""
        asked = [m.poll.last_asked for m in self.members if m.is_observed and not m.poll.is_asked]
        return min(asked, default=float("inf")) + self._limits.ask_interval_s

    # Views.

    @property
    def is_idle(self) -> bool:
        """Whether every expected member has a process and none has a job."""
        return all(not member.jobs and not member.waits_for_start for member in self.expected())

    @property
    def is_idle_and_synced(self) -> bool:
        """Whether every expected member has the current weights and none has a job."""
        return all(member.state is MemberState.HEALTHY and not member.jobs for member in self.expected())

    def present(self) -> list[Member]:
        """Return the members that belong to the fleet: all that are neither dead nor leaving.

        Some of them may never get a process, if the cluster has no room; `expected` leaves these out.
        """
        return [member for member in self.members if member.state is not MemberState.DEAD and not member.leaving]

    def expected(self) -> list[Member]:
        """Return the present members that can be waited for.

        Left out are those without room in the cluster, unless the run begins with them: they may never find any.
        """
        return [m for m in self.present() if m.state is not MemberState.PENDING or m.start_by is not None]

    def slow(self) -> Iterator[tuple[Member, Job]]:
        """Yield the members that make progress with a job that takes longer than its deadline, each with the oldest."""
        now = self._clock()
        for member in self.members:
            work = (job for job in member.jobs.values() if job.kind in OBSERVED and job.kind is not JobKind.CHECK)
            slow = (job for job in work if job.began + self._limits.deadlines[job.kind] <= now < job.deadline)
            if (oldest := next(slow, None)) is not None:
                yield member, oldest

    @property
    def num_restarts(self) -> int:
        """Restarts so far that count against `max_restarts`."""
        return self._restarts.spent

    @property
    def utilization(self) -> float:
        """Share of the members' time since their first batches in which they had one, 0 to 1."""
        return self._utilization.share

    def count_states(self) -> dict[MemberState, int]:
        """Return the number of members in each state."""
        return {state: sum(member.state is state for member in self.members) for state in MemberState}

    # Reports of the caller.

    def mark_no_room(self, member: Member) -> None:
        """Note that the cluster has no room for a member's process; it waits until a node joins or has some again.

        Raises:
            DeadlineError: The run cannot begin without this member, or has no other left, and has waited long enough.
        """
        now, limit = self._clock(), self._limits.deadlines[JobKind.START]
        member.state, member.start_at = MemberState.PENDING, now + ROOM_POLL_S
        if member.start_by is None and self.expected():
            self._unplaceable_since = None
            return
        self._unplaceable_since = now if self._unplaceable_since is None else self._unplaceable_since
        until = member.start_by if member.start_by is not None else self._unplaceable_since + limit
        if now >= until:
            raise DeadlineError(f"the driver waited {limit:g} s for the cluster to have room for {member.name}")

    def begin(self, member: Member, key: Hashable, kind: JobKind) -> None:
        """Note that a member has been given a job."""
        now = self._clock()
        if not member.jobs:
            member.last_seen = now
        if not member.is_observed and not member.poll.is_asked:
            # Asked at once: a process that does not answer is known by the time of its deadline, however rarely the
            # driver looks.
            member.poll.last_asked = float("-inf")
        if kind is JobKind.BATCH and not member.num_jobs(JobKind.BATCH):
            self._utilization.begin_work(member)
        member.jobs[key] = Job(kind=kind, began=now, deadline=now + self._limits.deadlines[kind], version=self.version)
        if kind is JobKind.START:
            member.state = MemberState.STARTING

    def mark_asked(self, member: Member) -> None:
        """Note that a member has been asked for its progress."""
        member.poll.ask(self._clock())

    def mark_progress(self, member: Member, progress: RolloutProgress | None) -> None:
        """Note a member's answer to the last question for its progress; None if it could not answer it.

        The deadlines of work count from the last progress of the work. A canary that is not answered, e.g. because it
        queues behind a long step, ends the member two heartbeat periods after the one that the engine advanced in.
        """
        asked_at = member.poll.answer()
        if progress is None:
            return
        member.progress = progress
        worked_at = asked_at - progress.work_age_s
        advanced_at = max(worked_at, asked_at - progress.engine_age_s)
        member.last_seen = max(member.last_seen, advanced_at)
        for job in member.jobs.values():
            if job.kind is JobKind.CHECK:
                periods = 3 if member.state is MemberState.SUSPECT else 2
                job.deadline = max(job.deadline, advanced_at + periods * self._limits.deadlines[job.kind])
            elif job.kind in OBSERVED:
                job.deadline = max(job.deadline, worked_at + self._limits.deadlines[job.kind])

    def mark_done(self, member: Member, key: Hashable) -> None:
        """Note that a job is done; a sync only counts as done if its canary was right."""
        job = self._end(member, key)
        kind = job.kind
        if kind is JobKind.START:
            member.start_by = None
        if kind is JobKind.BATCH:
            member.consecutive_deaths = member.failed_jobs = 0
        elif kind is JobKind.SYNC:
            member.version = job.version
        elif kind is JobKind.SLEEP:
            member.version = None  # its next sync wakes it
            if member.state is MemberState.HEALTHY:
                member.state = MemberState.STALE
        member.last_seen = self._clock()
        if kind is JobKind.START or (kind is JobKind.CHECK and member.state is MemberState.SUSPECT):
            member.state = MemberState.STALE
        # A version that was replaced while it was loaded leaves the member STALE: it loads again.
        if member.state is MemberState.STALE and member.version is not None and member.version == self.version:
            member.state = MemberState.HEALTHY

    def mark_aborted(self, member: Member, key: Hashable) -> None:
        """Note that a job failed for a reason outside the member."""
        self._end(member, key)
        member.last_seen = self._clock()

    def mark_failed(self, member: Member, key: Hashable) -> bool:
        """Note that a job raised an exception; return whether the member should be given up (`mark_lost`).

        One failed batch is forgiven if the canary is right. Any other failure, and a second one, is not.
        """
        kind = self._end(member, key).kind
        member.failed_jobs += 1
        member.state = MemberState.SUSPECT
        return kind is not JobKind.BATCH or member.failed_jobs > 1

    def overdue(self) -> list[tuple[Member, JobKind]]:
        """Return members that should be given up (`mark_lost`) because of a missed deadline, with the late job's kind.

        Raises:
            DeadlineError: A member that the run begins with did not start in time; another try would not either.
        """
        now, overdue = self._clock(), list[tuple[Member, JobKind]]()
        for member in self.members:
            late = next((job for job in member.jobs.values() if self._is_late(member, job, now)), None)
            if late is None:
                continue
            if late.kind is JobKind.START and member.start_by is not None:
                limit = self._limits.deadlines[JobKind.START]
                raise DeadlineError(f"the driver waited {limit:g} s for rollout actor {member.name} to start")
            if late.kind is JobKind.CHECK and member.state is not MemberState.SUSPECT:
                # A canary queues behind a step of the engine, which may be long. No more work, but a second period.
                member.state = MemberState.SUSPECT
                late.deadline = now + self._limits.deadlines[JobKind.CHECK]
            else:
                overdue.append((member, late.kind))
        return overdue

    def mark_lost(self, member: Member, why: str, *, counted: bool = True) -> None:
        """Note that a member's process is gone or given up; it restarts after a back-off, if a restart is left.

        Args:
            member: Its jobs are ended.
            why: Reason as a predicate of the member, e.g. "died".
            counted: Whether the restart counts against the budget; False for a member that is ended because of another.

        Raises:
            TlpoError: Too few members are left.
        """
        for key in tuple(member.jobs):
            self._end(member, key)
        member.version, member.failed_jobs = None, 0
        member.poll, member.progress = self._new_poll(), None
        if member.leaving:
            member.state = MemberState.DEAD
        elif counted and self._restarts.exhausted:
            self._give_up(member, why)
        else:
            if counted:
                self._restarts.spend()
            doublings = min(member.consecutive_deaths, MAX_DOUBLINGS)
            backoff_s = min(self._limits.backoff_limit_s, self._limits.backoff_s * 2.0**doublings)
            member.consecutive_deaths += 1
            member.incarnation += 1
            member.state, member.start_at = MemberState.RESTARTING, self._clock() + backoff_s

    def remove(self, member: Member) -> None:
        """Remove a leaving member after its process has ended."""
        self._utilization.stop_counting(member)
        self.members.remove(member)

    def _give_up(self, member: Member, why: str) -> None:
        member.state = MemberState.DEAD
        self._utilization.stop_counting(member)
        left, needed = len(self.present()), self._limits.min_healthy
        if left < needed:
            raise TlpoError(
                f"rollout actor {member.name} {why}, {self._restarts}, and {left} rollout actors are left, fewer than "
                f"the required {needed} (flow.min_healthy)"
            )

    def _new_poll(self) -> ProgressPoll:
        return ProgressPoll(interval_s=self._limits.ask_interval_s)

    def _progress_limits(self, member: Member) -> list[float]:
        """Return the times until which a member may show no progress."""
        limits = [job.deadline for job in member.jobs.values() if job.kind in OBSERVED]
        return [*limits, member.last_seen + self._limits.heartbeat_s] if self._is_monitored(member) else limits

    def _passed_limit(self, member: Member, now: float) -> float:
        """Return the last of these times that has passed; minus infinity if none has."""
        return max((limit for limit in self._progress_limits(member) if limit <= now), default=float("-inf"))

    @staticmethod
    def _is_late(member: Member, job: Job, now: float) -> bool:
        return job.deadline <= now and (job.kind not in OBSERVED or member.poll.can_judge(job.deadline, now))

    def _missed_heartbeat(self, member: Member) -> bool:
        now, limit = self._clock(), member.last_seen + self._limits.heartbeat_s
        return self._is_monitored(member) and limit <= now and member.poll.can_judge(limit, now)

    @staticmethod
    def _is_monitored(member: Member) -> bool:
        """Return whether silence means something: it has a batch, and no canary has been requested yet."""
        return member.num_jobs(JobKind.BATCH) > 0 and not member.num_jobs(JobKind.CHECK)

    def _end(self, member: Member, key: Hashable) -> Job:
        job = member.jobs.pop(key)
        for queued in member.jobs.values():  # a process does one job after the other
            queued.began = self._clock()
        if job.kind is JobKind.BATCH and not member.num_jobs(JobKind.BATCH):
            self._utilization.end_work(member)
        return job

    def _in(self, state: MemberState) -> Iterator[Member]:
        return (member for member in self.members if member.state is state)
