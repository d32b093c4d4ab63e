"""A member that is slow is not lost, one that hangs is: the state machine and a driver on a simulated clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.member import JobKind, Limits, MemberState
from actors.progress import RolloutProgress
from tests.actors.test_fleet import LIMITS, Clock, make_fleet
from tlpo_ray.config.run import FlowConfig

LOOP_S = 20.0
"""Longest pause of the driver between two looks at the fleet."""
DEFAULTS = Limits.from_config(FlowConfig())
WORK = st.sampled_from((JobKind.BATCH, JobKind.GENERATE, JobKind.SYNC))


def silence_limit(limits: Limits, kind: JobKind) -> float:
    """Return the time without progress after which a member is lost, as FlowConfig documents it."""
    heartbeat = limits.heartbeat_s + 2 * limits.deadlines[JobKind.CHECK] if kind is JobKind.BATCH else math.inf
    return min(limits.deadlines[kind], heartbeat)


class Driver:
    """Drives a fleet of one member, whose process makes progress at given times.

    Args:
        limits: Limits of the fleet.
        kind: Kind of the only job, which never ends.
        progress_at: Times at which the process makes progress, in order.
        latency_s: Time that the process takes to answer a question.
        stops_at: Time from which it answers no more.
        answers_canary: Whether it answers a canary, at once.
    """

    def __init__(
        self,
        limits: Limits,
        kind: JobKind,
        progress_at: Sequence[float] = (),
        *,
        latency_s: float = 0.01,
        stops_at: float = math.inf,
        answers_canary: bool = False,
        engine_at: Callable[[float], float] | None = None,
    ) -> None:
        self.clock = Clock()
        self.fleet = make_fleet(self.clock, 1, limits)
        (self.member,) = self.fleet.members
        self._progress_at, self._latency_s, self._stops_at = progress_at, latency_s, stops_at
        self._answers_canary = answers_canary
        self._engine_at = engine_at
        self._answer_at = math.inf
        self.num_canaries = 0
        self.num_questions = 0
        self.fleet.begin(self.member, "work", kind)

    def run(self, until: float, pauses: Sequence[float] = ()) -> float | None:
        """Look at the fleet again and again; return the time at which the member was lost, None if it was not.

        Args:
            until: Time at which to end.
            pauses: Times without a look, one after each of the first looks, while the driver is busy elsewhere.
        """
        looks = 0
        while self.clock.now < until:
            self._take_answer()
            for member in self.fleet.to_ask():
                self.num_questions += 1
                self.fleet.mark_asked(member)
                answer_at = self.clock.now + self._latency_s
                self._answer_at = answer_at if answer_at < self._stops_at else math.inf
            if self.fleet.overdue():
                return self.clock.now
            for member in self.fleet.to_check():
                self.num_canaries += 1
                self.fleet.begin(member, "canary", JobKind.CHECK)
                if self._answers_canary:
                    self.fleet.mark_done(member, "canary")
            events = (self.fleet.next_event(), self.fleet.next_question(), self._answer_at)
            pause = pauses[looks] if looks < len(pauses) else min(LOOP_S, min(events) - self.clock.now)
            self.clock.now += max(pause, 1e-3)
            looks += 1
        return None

    def _take_answer(self) -> None:
        if self.clock.now < self._answer_at:
            return
        at, self._answer_at = self._answer_at, math.inf
        work_age_s = at - max((time for time in self._progress_at if time <= at), default=-1e6)
        engine_age_s = work_age_s if self._engine_at is None else at - self._engine_at(at)
        self.fleet.mark_progress(self.member, RolloutProgress(work_age_s=work_age_s, engine_age_s=engine_age_s))


def times(gaps: Sequence[float]) -> list[float]:
    """Return the times of events with these gaps in between."""
    return [sum(gaps[: number + 1]) for number in range(len(gaps))]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_member_that_makes_progress_within_every_limit_is_never_lost(data: st.DataObject) -> None:
    """However long its work takes, and however rarely the driver looks."""
    limits = replace(
        LIMITS,
        deadlines=LIMITS.deadlines | dict.fromkeys((JobKind.BATCH, JobKind.GENERATE, JobKind.SYNC), 40.0),
        heartbeat_s=data.draw(st.sampled_from((10.0, 1000.0)), label="heartbeat"),
    )
    limits = replace(limits, deadlines=limits.deadlines | {JobKind.CHECK: limits.heartbeat_s})
    kind = data.draw(WORK, label="kind")
    longest = 0.99 * silence_limit(limits, kind)
    gaps = [*data.draw(st.lists(st.floats(0.01, longest), max_size=12), label="gaps"), longest]
    driver = Driver(
        limits,
        kind,
        times(gaps),
        latency_s=data.draw(st.floats(0.001, 0.99 * limits.ask_interval_s), label="latency"),
    )
    pauses = data.draw(st.lists(st.floats(0.001, 300), max_size=8), label="pauses")
    assert driver.run(sum(gaps), pauses) is None


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_member_that_stops_is_lost_within_the_limit(data: st.DataObject) -> None:
    """Its process is stopped from outside, and answers nothing from then on."""
    limits = data.draw(st.sampled_from((LIMITS, DEFAULTS)), label="limits")
    kind = data.draw(WORK, label="kind")
    limit = silence_limit(limits, kind)
    gaps = data.draw(st.lists(st.floats(0.01, 0.5 * limit), max_size=8), label="gaps")
    stops_at = sum(gaps) + data.draw(st.floats(0.0, 0.9 * limit), label="rest")
    lost_at = Driver(limits, kind, times(gaps), stops_at=stops_at).run(stops_at + 2 * limit)
    assert lost_at is not None and lost_at <= stops_at + limit + 0.1


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_member_that_hangs_in_a_step_is_lost_within_the_limit(data: st.DataObject) -> None:
    """Its process answers questions, but nothing advances."""
    limits = data.draw(st.sampled_from((LIMITS, DEFAULTS)), label="limits")
    kind = data.draw(WORK, label="kind")
    limit = silence_limit(limits, kind)
    gaps = data.draw(st.lists(st.floats(0.01, 0.5 * limit), max_size=8), label="gaps")
    lost_at = Driver(limits, kind, times(gaps)).run(sum(gaps) + 2 * limit)
    assert lost_at is not None and sum(gaps) + limit <= lost_at + 1e-6
    assert lost_at <= sum(gaps) + limit + 0.1


def test_a_batch_that_takes_ten_times_its_deadline_ends_without_a_canary() -> None:
    seconds = int(10 * DEFAULTS.deadlines[JobKind.BATCH])
    driver = Driver(DEFAULTS, JobKind.BATCH, range(0, seconds + 1, 7))
    assert driver.run(seconds) is None
    assert driver.num_canaries == 0 and driver.member.state is MemberState.HEALTHY
    driver.fleet.mark_done(driver.member, "work")
    assert driver.fleet.num_restarts == 0
    assert driver.num_questions <= seconds / DEFAULTS.ask_interval_s + 2, "questions are rare"


def test_an_engine_that_answers_canaries_but_has_lost_the_batch_is_found_at_the_deadline() -> None:
    """It spins: a canary is no progress of the batch, although its engine advances."""
    driver = Driver(DEFAULTS, JobKind.BATCH, answers_canary=True, engine_at=lambda now: now)
    deadline = DEFAULTS.deadlines[JobKind.BATCH]
    assert driver.run(2 * deadline) == pytest.approx(deadline, abs=0.1)


def test_a_step_may_take_longer_than_a_heartbeat_if_the_engine_advances_within_it() -> None:
    seconds = 0.9 * DEFAULTS.deadlines[JobKind.BATCH]
    assert seconds > 3 * DEFAULTS.heartbeat_s
    driver = Driver(DEFAULTS, JobKind.BATCH, engine_at=lambda now: now - 1)
    assert driver.run(seconds) is None and driver.num_canaries == 0
    assert Driver(DEFAULTS, JobKind.BATCH).run(seconds) == pytest.approx(3 * DEFAULTS.heartbeat_s, abs=0.1)


def test_a_process_that_cannot_report_progress_has_its_deadline_from_the_beginning() -> None:
    clock = Clock()
    fleet = make_fleet(clock, 1, DEFAULTS)
    (member,) = fleet.members
    fleet.begin(member, "answers", JobKind.GENERATE)
    deadline = DEFAULTS.deadlines[JobKind.GENERATE]
    for clock.now in (0.3 * deadline, 0.6 * deadline, deadline):
        assert not fleet.overdue() or clock.now == deadline
        (asked,) = fleet.to_ask()
        fleet.mark_asked(asked)
        fleet.mark_progress(asked, None)
    assert fleet.overdue() == [(member, JobKind.GENERATE)]


def test_a_slow_job_is_described_with_its_size_and_what_to_do() -> None:
    clock = Clock()
    fleet = make_fleet(clock, 1, DEFAULTS)
    (member,) = fleet.members
    fleet.begin(member, "a", JobKind.BATCH)
    assert not [*fleet.slow()]
    clock.now = 720
    fleet.mark_asked(member)
    progress = RolloutProgress(work_age_s=1.0, engine_age_s=0.0, prompts=64, prompts_done=23, tokens=5_120)
    fleet.mark_progress(member, progress)
    ((slow, job),) = fleet.slow()
    assert slow is member and member.describe_slow(job, clock.now) == (
        "has worked 720 s on a batch of 64 prompts and makes progress (23 done, 5,120 tokens sampled): lower "
        "rollout.lease_size, or raise flow.rollout_deadline_s"
    )
    fleet.mark_done(member, "a")
    assert not [*fleet.slow()]


def test_an_incarnation_does_not_inherit_questions_or_progress() -> None:
    fleet = make_fleet(Clock(), 1)
    (member,) = fleet.members
    fleet.begin(member, "a", JobKind.BATCH)
    fleet.mark_asked(member)
    fleet.mark_progress(member, RolloutProgress(work_age_s=0.0, engine_age_s=0.0, prompts=4))
    fleet.mark_asked(member)
    fleet.mark_lost(member, "died")
    assert member.progress is None and not member.poll.is_asked and not fleet.to_ask()


def test_a_member_that_was_stopped_before_its_job_is_lost_when_the_driver_looks_again() -> None:
    """During an update at staleness 0 the driver does not look, and after it the run may be over soon."""
    driver = Driver(DEFAULTS, JobKind.SYNC, stops_at=0.0)
    away = 2 * DEFAULTS.deadlines[JobKind.SYNC]
    assert driver.run(3 * away, pauses=[0.5, away]) == pytest.approx(away + 0.5)


def test_a_batch_that_has_waited_for_the_one_before_it_is_not_slow() -> None:
    clock = Clock()
    fleet = make_fleet(clock, 1, DEFAULTS)
    (member,) = fleet.members
    fleet.begin(member, "a", JobKind.BATCH)
    fleet.begin(member, "b", JobKind.BATCH)
    clock.now = 2 * DEFAULTS.deadlines[JobKind.BATCH]
    fleet.mark_asked(member)
    fleet.mark_progress(member, RolloutProgress(work_age_s=1.0, engine_age_s=0.0, prompts=9, prompts_done=9, tokens=9))
    assert [job for _, job in fleet.slow()] == [member.jobs["a"]]
    fleet.mark_done(member, "a")
    assert not [*fleet.slow()]
    clock.now += DEFAULTS.deadlines[JobKind.BATCH]
    fleet.mark_asked(member)
    fleet.mark_progress(member, RolloutProgress(work_age_s=1.0, engine_age_s=0.0, prompts=9, prompts_done=1, tokens=9))
    assert [job for _, job in fleet.slow()] == [member.jobs["b"]]
