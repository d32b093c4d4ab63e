"""Jobs of the rollout fleet as calls of its processes: starting them, and reporting their ends to `FleetState`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from actors.fleet import FleetState
from actors.member import JOB_DESCRIPTIONS, JobKind, Member, MemberState, remedy
from actors.process import RolloutSpec
from actors.progress import RolloutProgress
from tlpo_ray.cluster.actors import (
    OBJECT_LOST,
    ActorLostError,
    ActorPool,
    CallFailedError,
    ask_progress,
    call_result,
    finished_calls,
)
from tlpo_ray.cluster.hangs import stacks_if_late
from tlpo_ray.errors import DeadlineError, TlpoError, first_line

logger = logging.getLogger(__name__)

IDLE_S = 0.05
"""Wait of a fleet without jobs before it is polled again, in seconds: a caller in a loop must not spin."""


class JobRunner:
    """Executes the decisions of a `FleetState` as calls, and replaces processes that die, hang or fail.

    Args:
        fleet: State machine; decides what happens when.
        pool: Processes of the members.
        spec: What every process is made from.
        poll_s: Maximum single wait in `wait_until_idle`, in seconds.
        release: Releases a holder's leases, so that the prompts can be leased again, in batches of half the size if
            its second argument is True; returns their number.
        broadcasts: Whether weights arrive by broadcast, so that an error in a sync concerns the complete fleet.
    """

    def __init__(
        self,
        fleet: FleetState,
        pool: ActorPool,
        spec: RolloutSpec,
        poll_s: float,
        release: Callable[[str, bool], int],
        *,
        broadcasts: bool,
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._spec = spec
        self._poll_s = poll_s
        self._release = release
        self._broadcasts = broadcasts
        self._on_done: dict[Any, Callable[[Any], None]] = {}
        """What to do with the result of each call under way."""
        self._questions: dict[Any, Member] = {}
        """Member that each unanswered question for progress was put to."""
        self._lost: list[Member] = []
        """Members lost during the current `poll`."""
        self.weights_lost = False
        """Whether a sync has found that the weights are gone with the process that held them."""

    def maintain(self) -> None:
        """Start, check and remove the members for which it is time."""
        self._ask()
        for member in self._fleet.to_start():
            if self._pool.has_room(member):
                handle = self._pool.start(member, f"tlpo-{member.name}", self._spec, member.name)
                self.begin(member, JobKind.START, handle.setup.remote())
            else:
                self._fleet.mark_no_room(member)
        for member in self._fleet.to_check():
            self.begin(member, JobKind.CHECK, self._pool[member].check_canary.remote())
        for member in self._fleet.to_remove():
            self._pool.kill(member)
            self._pool.release(member)
            self._fleet.remove(member)

    def begin(
        self, member: Member, kind: JobKind, call: Any, on_done: Callable[[Any], None] = lambda result: None
    ) -> None:
        """Register a call as a job of a member.

        Args:
            member: Member that runs the call.
            kind: Kind of the job; defines its deadline and what a failure means.
            call: Reference to the result.
            on_done: Called with the result, before the job counts as done.
        """
        self._fleet.begin(member, call, kind)
        self._on_done[call] = on_done

    def poll(self, timeout_s: float, wake: Sequence[Any] = ()) -> list[Member]:
        """Wait for the first finished call or due event, and handle everything that has happened.

        Args:
            timeout_s: Maximum wait in seconds.
            wake: References that also end the wait.

        Returns:
            Members that were lost meanwhile.

        Raises:
            TlpoError: Too few members are left, or an error concerns the complete run.
            DeadlineError: A member that the run begins with did not start in time.
        """
        self._lost = []
        running = {call: member for member in self._fleet.members for call in member.jobs}
        next_event = min(self._fleet.next_event(), self._fleet.next_question())
        wait_s = max(0.0, min(timeout_s, next_event - time.monotonic()))
        if running or wake:
            awaited = self._fleet.awaited()
            answers = [question for question, member in self._questions.items() if member in awaited]
            for call in finished_calls(list(running), [*wake, *answers], wait_s):
                self._finish(running[call], call)
        else:
            time.sleep(min(IDLE_S, wait_s))
        self._take_answers()
        self._ask()
        with stacks_if_late(self._pool.processes):
            overdue = self._fleet.overdue()
        if overdue:
            self._pool.dump_stacks()  # before the processes that hang are killed
        for member, kind in overdue:
            self.lose(member, f"did not {JOB_DESCRIPTIONS[kind]} in time", advice=remedy(kind))
        self._report_slow()
        return self._lost

    @property
    def slow(self) -> dict[str, str]:
        """What members are slow at, and what to do, by their names."""
        now = time.monotonic()
        return {member.name: member.describe_slow(job, now) for member, job in self._fleet.slow()}

    def run_on_all(self, kind: JobKind, call: Callable[[Any], Any]) -> None:
        """Wait until the fleet is idle, and give every expected member a job, until none is lost over it.

        Args:
            kind: Kind of the jobs.
            call: Function from the handle of a member's process to a call on it.
        """
        lost = True
        while lost:
            self.wait_until_idle()
            for member in self._fleet.expected():
                self.begin(member, kind, call(self._pool[member]))
            lost = self.wait_until_idle()

    def wait_until_idle(self) -> bool:
        """Wait until every expected member has started and has no job; return whether members were lost meanwhile."""
        lost = False
        while not self._fleet.is_idle:
            self.maintain()
            lost = bool(self.poll(self._poll_s)) or lost
        return lost

    def lose(
        self, member: Member, why: str, *, counted: bool = True, advice: str = "", halve: bool = True,
        error: BaseException | None = None,
    ) -> None:  # fmt: skip
        """Give a member up: its leases return, its process ends, and it restarts when its back-off is over.

        Args:
            member: Member with a process.
            why: Reason as a predicate of the member.
            counted: Whether the restart counts against `flow.max_restarts`.
            advice: What to do against a repetition, for the log; empty for nothing.
            halve: Whether its batches may have been too large for it.
            error: What shows that it is lost.

        Raises:
            TlpoError: Too few members are left.
        """
        self._lost.append(member)
        for call in member.jobs:
            self._on_done.pop(call, None)
        self._questions = {question: asked for question, asked in self._questions.items() if asked is not member}
        self._release_leases(member, why, advice, halve=halve, error=error)
        self._pool.kill(member)
        self._fleet.mark_lost(member, why, counted=counted)
        if member.state is MemberState.DEAD:
            self._pool.release(member)

    def _ask(self) -> None:
        """Ask members for their progress for which it is time."""
        for member in self._fleet.to_ask():
            self._questions[ask_progress(self._pool[member])] = member
            self._fleet.mark_asked(member)

    def _take_answers(self) -> None:
        """Note the answers that have arrived."""
        for question in finished_calls(list(self._questions), (), 0.0):
            progress: RolloutProgress | None = None
            # A process that died is found by its jobs. An engine that fails in its answer has only its deadlines.
            with suppress(ActorLostError, CallFailedError):
                progress = call_result(question)
            self._fleet.mark_progress(self._questions.pop(question), progress)

    def _report_slow(self) -> None:
        """Log every slow job once."""
        for member, job in self._fleet.slow():
            if not job.is_reported:
                job.is_reported = True
                logger.warning("rollout actor %s %s", member.name, member.describe_slow(job, time.monotonic()))

    def _release_leases(
        self, member: Member, why: str, advice: str = "", *, halve: bool = True, error: BaseException | None = None
    ) -> None:
        """Release the leases of a member that was lost or has failed, and log why."""
        again = ""
        if released := self._release(member.name, halve):
            again = f"{released} prompts are leased again" + (", in batches of half the size" if halve else "")
        logger.warning(
            "rollout actor %s %s",
            member.name, "; ".join(part.removesuffix(".") for part in (why, again, advice) if part),
            extra={"process_name": member.name, "error": error},
        )  # fmt: skip

    def _finish(self, member: Member, call: Any) -> None:
        """Take the result of a finished call."""
        if call not in member.jobs:
            return  # the member was lost over another call a moment ago
        kind = member.jobs[call].kind
        try:
            result = call_result(call)
        except ActorLostError as error:
            self.lose(member, f"died while trying to {JOB_DESCRIPTIONS[kind]}: {error}", error=error)
            return
        except CallFailedError as error:
            self._fail(member, call, kind, error)
            return
        try:
            self._on_done.pop(call)(result)
        except OBJECT_LOST as error:
            why = f"was lost with a batch that it had finished: {first_line(error)}"
            self.lose(member, why, halve=False, error=error)
            return
        self._fleet.mark_done(member, call)

    def _fail(self, member: Member, call: Any, kind: JobKind, failure: CallFailedError) -> None:
        """Handle a call that raised an exception.

        Raises:
            BaseException: It concerns the complete run.
        """
        error = failure.error
        if kind is JobKind.SYNC and isinstance(error, OBJECT_LOST):
            # The learner that held the buckets is gone. That is its fault, and it will export them again.
            self._on_done.pop(call)
            self._fleet.mark_aborted(member, call)
            self.weights_lost = True
            return
        why = f"could not {JOB_DESCRIPTIONS[kind]}: {first_line(error)}"
        if self._concerns_the_run(member, kind, error):
            if kind in (JobKind.START, JobKind.GENERATE) and not isinstance(error, TlpoError):
                raise TlpoError(f"rollout actor {member.name} {why} ({type(error).__name__})") from error
            raise error
        self._on_done.pop(call)
        if self._fleet.mark_failed(member, call):
            self.lose(member, why, error=failure)
        else:
            self._release_leases(member, why, error=failure)

    def _concerns_the_run(self, member: Member, kind: JobKind, error: BaseException) -> bool:
        """Return whether an exception ends the run, because another process would raise it, too."""
        if kind is JobKind.START:
            # The first start of a run shows that model and settings work. A later one may fail because of its node.
            return member.start_by is not None
        if kind is JobKind.CHECK:
            return False  # the others have the same weights and pass
        collective = kind in (JobKind.JOIN, JobKind.SYNC) and self._broadcasts
        ours = isinstance(error, TlpoError) and not isinstance(error, DeadlineError)
        return kind is JobKind.GENERATE or collective or ours
