"""Broadcasts of weights: the learner sends once, and all rollout actors receive at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.fleet import FleetState
from actors.jobs import JobRunner
from actors.member import JobKind, Member
from tlpo_ray.cluster.actors import ActorPool
from tlpo_ray.cluster.waiting import LOST, wait_for
from tlpo_ray.errors import DeadlineError, LearnerLostError, first_line
from tlpo_ray.flow.weights import Broadcaster


class BroadcastRound:
    """Loads new weights into the complete fleet by broadcasts.

    A broadcast is a collective: it needs all members of a group at once, and the group has to be formed again when
    the fleet or the learner changes. A member lost in the middle of one takes all others down, because the engines may
    hold half of the new weights.

    Args:
        fleet: State of the members.
        jobs: Runs their jobs.
        pool: Their processes.
        broadcaster: The learner group.
        load: Begins the job in which a member receives the weights.
        ranks_per_member: Processes of one member's engine; each is a rank of the group.
        deadline_s: Maximum wait for the learner, in seconds.
    """

    def __init__(
        self,
        fleet: FleetState,
        jobs: JobRunner,
        pool: ActorPool,
        broadcaster: Broadcaster,
        load: Callable[[Member], None],
        *,
        ranks_per_member: int,
        deadline_s: float,
    ) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._pool = pool
        self._broadcaster = broadcaster
        self._load = load
        self._ranks_per_member = ranks_per_member
        self._deadline_s = deadline_s
        self._group_key: tuple[int, list[str]] | None = None
        """Incarnations of the learner and names of the members in the current group; None if there is none."""

    @property
    def ready(self) -> bool:
        """Whether the learner holds the weights to send: during an update they are changing."""
        return not self._broadcaster.learning

    def run(self) -> None:
        """Let all members finish their jobs, form a group if anything has changed, and broadcast until all are synced.

        Raises:
            LearnerLostError: A learner rank was lost.
            TlpoError: Too few members are left.
            WeightSyncError: The weights of a member differ from the learner's.
        """
        while not self._fleet.is_idle_and_synced:
            # A collective waits for a dead member until its deadline, which is long. A canary finds it sooner.
            self._jobs.run_on_all(JobKind.CHECK, lambda actor: actor.check_canary.remote())
            members = self._fleet.expected()
            try:
                self._broadcast(members)
            except (RuntimeError, DeadlineError, LearnerLostError, *LOST) as error:
                self._group_key = None
                learner_lost = isinstance(error, LearnerLostError)
                self._lose_all(members, error, learner_lost=learner_lost)
                if learner_lost:
                    raise

    def _broadcast(self, members: Sequence[Member]) -> None:
        group_key = (self._broadcaster.incarnation, [member.name for member in members])
        if self._group_key != group_key:
            self._form_group(members)
            self._group_key = group_key
        sent = self._broadcaster.broadcast()
        for member in members:
            self._load(member)
        self._complete(sent, "send its weights")

    def _form_group(self, members: Sequence[Member]) -> None:
        """Make learner and members join a new group; ranks from 1 on are the members'."""
        rendezvous, opened = self._broadcaster.open_broadcast(len(members) * self._ranks_per_member)
        for number, member in enumerate(members):
            rank = 1 + number * self._ranks_per_member
            self._jobs.begin(member, JobKind.JOIN, self._pool[member].join_broadcast.remote(rendezvous, rank))
        self._complete(opened, "open the broadcast group")

    def _complete(self, learner_calls: list[Any], what: str) -> None:
        """Wait for both sides of a collective, the learner first: it cannot end without the members."""
        try:
            wait_for(learner_calls, self._deadline_s, who="the driver", what=f"the learner to {what}")
        except DeadlineError as error:
            # A rank may wait forever: for another rank that has failed, or for the process of a member.
            raise LearnerLostError(str(error)) from error
        except LOST as error:
            raise LearnerLostError(f"a learner rank was lost before it could {what}: {first_line(error)}") from error
        self._jobs.wait_until_idle()

    def _lose_all(self, members: Sequence[Member], error: Exception, *, learner_lost: bool) -> None:
        """Give up all members that still have a process; together they cost one restart, none if it was the learner."""
        why = f"was in a broadcast of weights that failed: {first_line(error)}"
        for number, member in enumerate(member for member in members if member in self._pool):
            self._jobs.lose(member, why, counted=number == 0 and not learner_lost)
