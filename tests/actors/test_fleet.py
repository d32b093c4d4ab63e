"""The state machine of the rollout fleet, with a clock that the tests control."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fleet import FleetState
from actors.member import JOB_DESCRIPTIONS, JobKind, Limits, Member, MemberState
from tlpo_ray.config.run import FlowConfig
from tlpo_ray.errors import DeadlineError, TlpoError

DEADLINES = dict.fromkeys(JobKind, 100.0) | {JobKind.CHECK: 10.0}
LIMITS = Limits(
    deadlines=DEADLINES,
    batches_per_actor=2,
    heartbeat_s=10,
    max_restarts=3,
    backoff_s=1,
    backoff_limit_s=8,
    min_healthy=1,
)


class Clock:
    """A clock that advances when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_fleet(clock: Clock, size: int = 2, limits: Limits = LIMITS) -> FleetState:
    """Return a fleet that has started and loaded policy version 0."""
    fleet = FleetState(size, limits, clock)
    fleet.set_version(0)
    bring_up(fleet)
    return fleet


def bring_up(fleet: FleetState) -> None:
    for member in fleet.to_start():
        fleet.begin(member, "start", JobKind.START)
        fleet.mark_done(member, "start")
    for member in fleet.to_sync():
        fleet.begin(member, "sync", JobKind.SYNC)
        fleet.mark_done(member, "sync")


def states(fleet: FleetState) -> list[MemberState]:
    return [member.state for member in fleet.members]


def test_every_kind_of_job_has_a_description_and_a_deadline() -> None:
    limits = Limits.from_config(FlowConfig())
    assert set(JOB_DESCRIPTIONS) == set(limits.deadlines) == set(JobKind)
    assert all(deadline > 0 for deadline in limits.deadlines.values())


def test_before_the_first_version_members_that_have_started_answer_and_get_no_prompts(clock: Clock) -> None:
    fleet = FleetState(2, LIMITS, clock)
    first, second = fleet.to_start()
    fleet.begin(first, "start", JobKind.START)
    fleet.begin(second, "start", JobKind.START)
    assert not fleet.able_to_answer()
    fleet.mark_done(first, "start")
    assert fleet.able_to_answer() == [first]
    assert not fleet.available()
    fleet.begin(first, "answers", JobKind.GENERATE)
    fleet.mark_done(second, "start")
    assert fleet.able_to_answer() == [second], "the other is at work"
    fleet.mark_done(first, "answers")
    assert states(fleet) == [MemberState.STALE, MemberState.STALE]
    fleet.set_version(0)
    assert not fleet.able_to_answer(), "from now on the learner's weights count"
    bring_up(fleet)
    assert fleet.able_to_answer() == [first, second]


def test_only_a_completed_sync_makes_a_member_healthy(clock: Clock) -> None:
    fleet = FleetState(1, LIMITS, clock)
    (member,) = fleet.to_start()
    fleet.begin(member, "start", JobKind.START)
    assert states(fleet) == [MemberState.STARTING]
    fleet.mark_done(member, "start")
    assert states(fleet) == [MemberState.STALE]
    assert not fleet.to_sync(), "no policy version exists yet"
    fleet.set_version(3)
    assert not fleet.available()
    fleet.begin(member, "sync", JobKind.SYNC)
    assert not fleet.available()
    fleet.mark_done(member, "sync")
    assert states(fleet) == [MemberState.HEALTHY]
    assert fleet.available() == [member]


def test_a_member_that_loaded_an_outdated_version_loads_again(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    fleet.set_version(1)
    (member,) = fleet.to_sync()
    fleet.begin(member, "sync", JobKind.SYNC)
    fleet.set_version(2)
    fleet.mark_done(member, "sync")
    assert (member.version, member.state) == (1, MemberState.STALE)
    assert fleet.to_sync() == [member]


def test_batches_in_flight_are_finished_before_new_weights_are_loaded(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.available()
    fleet.begin(member, "a", JobKind.BATCH)
    assert fleet.available() == [member], "the next batch fills the engine while the first one ends"
    fleet.begin(member, "b", JobKind.BATCH)
    assert not fleet.available()
    fleet.set_version(1)
    fleet.mark_done(member, "a")
    assert not fleet.available() and not fleet.to_sync()
    fleet.mark_done(member, "b")
    assert fleet.to_sync() == [member]


def test_the_member_with_the_fewest_batches_is_served_first(clock: Clock) -> None:
    fleet = make_fleet(clock, 3)
    first, second, third = fleet.members
    fleet.begin(first, "a", JobKind.BATCH)
    fleet.begin(second, "b", JobKind.BATCH)
    fleet.begin(second, "c", JobKind.BATCH)
    assert fleet.available() == [third, first]


def test_a_sleeping_member_gets_no_work_before_it_has_weights_again(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "sleep", JobKind.SLEEP)
    fleet.mark_done(member, "sleep")
    assert not fleet.available() and fleet.to_sync() == [member]
    fleet.begin(member, "load", JobKind.SYNC)
    fleet.mark_done(member, "load")
    assert fleet.available() == [member]


def test_a_slow_sync_delays_no_other_member(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.set_version(1)
    slow, quick = fleet.to_sync()
    fleet.begin(slow, "slow", JobKind.SYNC)
    fleet.begin(quick, "quick", JobKind.SYNC)
    fleet.mark_done(quick, "quick")
    assert fleet.available() == [quick]
    clock.now = 100
    assert fleet.overdue() == [(slow, JobKind.SYNC)]


def test_a_missed_heartbeat_leads_to_a_canary_then_suspicion_then_loss(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    clock.now = 9
    assert not fleet.to_check()
    assert fleet.next_event() == 10
    clock.now = 10
    assert fleet.to_check() == [member]
    fleet.begin(member, "canary", JobKind.CHECK)
    assert not fleet.to_check()
    clock.now = 20
    assert not fleet.overdue()
    assert states(fleet) == [MemberState.SUSPECT]
    assert not fleet.available()
    clock.now = 30
    assert fleet.overdue() == [(member, JobKind.CHECK)]


def test_a_late_canary_clears_a_suspect(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    clock.now = 10
    fleet.begin(member, "canary", JobKind.CHECK)
    clock.now = 20
    assert not fleet.overdue()
    fleet.mark_done(member, "canary")
    assert states(fleet) == [MemberState.HEALTHY]
    clock.now = 29
    assert not fleet.to_check(), "it has been seen"


def test_an_idle_member_does_not_generate_canaries(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    clock.now = 1_000
    assert not fleet.to_check()
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    assert not fleet.to_check(), "the heartbeat period begins with the work"


def test_a_failed_batch_is_forgiven_once_if_the_canary_is_right(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    assert not fleet.mark_failed(member, "batch")
    assert not fleet.available()
    assert fleet.to_check() == [member]
    fleet.begin(member, "canary", JobKind.CHECK)
    fleet.mark_done(member, "canary")
    assert fleet.available() == [member]
    fleet.begin(member, "again", JobKind.BATCH)
    assert fleet.mark_failed(member, "again"), "it finished no work in between: give it up"


def test_a_wrong_canary_ends_an_incarnation(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    fleet.mark_failed(member, "batch")
    fleet.begin(member, "canary", JobKind.CHECK)
    assert fleet.mark_failed(member, "canary")


def test_the_back_off_stays_at_its_limit_however_often_a_member_dies(clock: Clock) -> None:
    fleet = make_fleet(clock, 1, replace(LIMITS, max_restarts=10_000))
    (member,) = fleet.members
    for _ in range(2_000):
        fleet.mark_lost(member, "died")
        assert member.start_at <= clock.now + LIMITS.backoff_limit_s
        clock.now = member.start_at
        assert fleet.to_start() == [member]
        fleet.begin(member, "start", JobKind.START)


def test_the_back_off_doubles_until_a_batch_is_finished(clock: Clock) -> None:
    fleet = make_fleet(clock, 1, replace(LIMITS, max_restarts=100))
    (member,) = fleet.members
    waits = []
    for _ in range(6):
        fleet.mark_lost(member, "died")
        waits.append(member.start_at - clock.now)
        assert not fleet.to_start()
        assert fleet.next_event() == member.start_at
        clock.now = member.start_at
        bring_up(fleet)
    assert waits == [1, 2, 4, 8, 8, 8]
    fleet.begin(member, "batch", JobKind.BATCH)
    fleet.mark_done(member, "batch")
    fleet.mark_lost(member, "died")
    assert member.start_at - clock.now == 1


def test_every_incarnation_has_its_own_name(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    before = member.name
    fleet.mark_lost(member, "died")
    assert member.name != before
    assert member.version is None
    assert not member.jobs


def test_the_fleet_continues_without_dead_members_and_stops_below_min_healthy(clock: Clock) -> None:
    fleet = make_fleet(clock, 3, replace(LIMITS, max_restarts=1, min_healthy=2))
    first, second, third = fleet.members
    fleet.mark_lost(first, "died")
    fleet.mark_lost(second, "died")
    assert states(fleet) == [MemberState.RESTARTING, MemberState.DEAD, MemberState.HEALTHY]
    with pytest.raises(
        TlpoError,
        match=r"rollout-2.0 did not answer, all 1 restarts .* 1 rollout actors are left, fewer than the required 2 ",
    ):
        fleet.mark_lost(third, "did not answer")


def test_a_member_that_is_ended_because_of_another_costs_no_restart(clock: Clock) -> None:
    fleet = make_fleet(clock, 3, replace(LIMITS, max_restarts=1))
    for number, member in enumerate(fleet.members):
        fleet.mark_lost(member, "was in a broadcast that failed", counted=number == 0)
    assert fleet.num_restarts == 1
    assert set(states(fleet)) == {MemberState.RESTARTING}


def test_a_start_that_takes_too_long_ends_the_run(clock: Clock) -> None:
    fleet = FleetState(1, LIMITS, clock)
    fleet.begin(fleet.members[0], "start", JobKind.START)
    clock.now = 100
    with pytest.raises(DeadlineError, match=r"waited 100 s for rollout actor rollout-0.0 to start"):
        fleet.overdue()


def test_a_run_waits_for_room_until_a_deadline_but_a_later_member_waits_for_ever(clock: Clock) -> None:
    fleet = FleetState(1, LIMITS, clock)
    (member,) = fleet.to_start()
    fleet.mark_no_room(member)
    assert states(fleet) == [MemberState.PENDING]
    assert not fleet.to_start() and fleet.next_event() > clock.now
    clock.now = 100
    assert fleet.to_start() == [member]
    with pytest.raises(DeadlineError, match=r"waited 100 s for the cluster to have room for rollout-0.0"):
        fleet.mark_no_room(member)
    fleet = make_fleet(clock, 1)
    fleet.resize(2)
    for _ in range(3):
        clock.now += 1_000
        (joining,) = fleet.to_start()
        fleet.mark_no_room(joining)
    assert states(fleet) == [MemberState.HEALTHY, MemberState.PENDING]
    assert fleet.is_idle_and_synced and fleet.is_idle, "no caller waits for it"


def test_a_restart_that_takes_too_long_loses_the_member_but_not_the_run(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.mark_lost(member, "died")
    fleet.begin(member, "start", JobKind.START)
    clock.now = 200
    assert fleet.overdue() == [(member, JobKind.START)]


def test_a_fleet_grows_and_shrinks(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (old,) = fleet.members
    fleet.resize(3)
    assert len(fleet.to_start()) == 2
    bring_up(fleet)
    assert len(fleet.available()) == 3
    last = fleet.members[-1]
    fleet.begin(last, "batch", JobKind.BATCH)
    fleet.resize(1)
    assert fleet.available() == [old]
    assert fleet.present() == [old]
    assert last not in fleet.to_remove(), "it finishes its batch first"
    fleet.mark_done(last, "batch")
    for member in fleet.to_remove():
        fleet.remove(member)
    assert fleet.members == [old]


def test_a_replaced_member_finishes_its_batch_while_its_successor_starts_and_costs_no_restart(clock: Clock) -> None:
    fleet = make_fleet(clock)
    bring_up(fleet)
    leaving, other = fleet.members
    fleet.begin(leaving, "batch", JobKind.BATCH)
    fleet.replace(leaving)
    assert fleet.available() == [other] and len(fleet.present()) == 2
    (successor,) = fleet.to_start()
    assert successor not in (leaving, other) and successor.number == 2
    assert fleet.to_remove() == []
    fleet.mark_done(leaving, "batch")
    assert fleet.to_remove() == [leaving]
    fleet.remove(leaving)
    fleet.begin(other, "batch", JobKind.BATCH)
    fleet.replace(other)
    fleet.mark_lost(other, "has not finished before its node is lost", counted=False)
    assert fleet.to_remove() == [other] and fleet.num_restarts == 0


def test_members_without_a_process_leave_first(clock: Clock) -> None:
    """The node of the oldest member is gone and there is no other: the member that works is kept."""
    fleet = make_fleet(clock, 2)
    first, second = fleet.members
    fleet.mark_lost(first, "died with its node")
    fleet.mark_no_room(first)
    fleet.resize(1)
    assert fleet.present() == [second]


def test_a_leaving_member_that_dies_is_not_restarted(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.begin(fleet.members[1], "batch", JobKind.BATCH)
    fleet.resize(1)
    fleet.mark_lost(fleet.members[1], "died")
    assert fleet.num_restarts == 0
    assert fleet.to_remove() == [fleet.members[1]]


def test_numbers_are_never_reused(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.resize(1)
    fleet.resize(2)
    numbers = [member.number for member in fleet.members]
    assert len(set(numbers)) == len(numbers) == 3


def test_utilization_is_the_share_of_time_with_a_batch(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    first, second = fleet.members
    fleet.begin(first, "a", JobKind.BATCH)
    fleet.begin(second, "b", JobKind.BATCH)
    clock.now = 5
    fleet.begin(second, "c", JobKind.BATCH)
    fleet.mark_done(second, "b")
    clock.now = 10
    fleet.mark_done(first, "a")
    clock.now = 20
    assert fleet.utilization == pytest.approx((10 + 20) / 40)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_only_synced_members_work_after_any_sequence_of_events(data: st.DataObject) -> None:
    """Batches only go to members with the current weights, and every incarnation starts and syncs first."""
    clock = Clock()
    fleet = FleetState(data.draw(st.integers(1, 4)), replace(LIMITS, max_restarts=50), clock)
    keys = iter(range(10_000))
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.sampled_from(("start", "sync", "batch", "check", "done", "fail", "die", "publish", "time"))):
            case "start":
                begin_all(fleet, fleet.to_start(), JobKind.START, keys)
            case "sync":
                begin_all(fleet, fleet.to_sync(), JobKind.SYNC, keys)
            case "check":
                begin_all(fleet, fleet.to_check(), JobKind.CHECK, keys)
            case "batch":
                for member in fleet.available():
                    assert member.version == fleet.version is not None
                begin_all(fleet, fleet.available(), JobKind.BATCH, keys)
            case "publish":
                fleet.set_version(data.draw(st.integers(0, 9)))
            case "time":
                clock.now += data.draw(st.floats(0, 20))
                lose_overdue(fleet)
            case ending:
                end_one(fleet, ending, data)
        for member in fleet.members:
            assert (member.state is MemberState.HEALTHY) <= (member.version == fleet.version)
            assert member.num_jobs(JobKind.BATCH) <= LIMITS.batches_per_actor
            assert member.num_jobs(JobKind.SYNC) == 0 or len(member.jobs) == 1
            assert not (member.state is MemberState.RESTARTING and member.jobs)
        assert 0 <= fleet.utilization <= 1 + 1e-9


def begin_all(fleet: FleetState, members: list[Member], kind: JobKind, keys: object) -> None:
    for member in members:
        fleet.begin(member, next(keys), kind)  # type: ignore[call-overload]


def end_one(fleet: FleetState, ending: str, data: st.DataObject) -> None:
    running = [(member, key) for member in fleet.members for key in member.jobs]
    if not running:
        return
    member, key = data.draw(st.sampled_from(running))
    if ending == "done":
        fleet.mark_done(member, key)
    elif ending == "die" or fleet.mark_failed(member, key):
        fleet.mark_lost(member, "was lost")


def lose_overdue(fleet: FleetState) -> None:
    try:
        for member, kind in fleet.overdue():
            fleet.mark_lost(member, f"did not {JOB_DESCRIPTIONS[kind]} in time")
    except DeadlineError:  # it would end a run
        for member in fleet.members:
            member.start_by = None


def test_a_leaving_suspect_that_is_lost_gets_no_further_jobs(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    last = fleet.members[1]
    fleet.begin(last, "batch", JobKind.BATCH)
    fleet.resize(1)
    fleet.begin(last, "check", JobKind.CHECK)
    clock.now = 11
    assert fleet.overdue() == []  # it is a suspect now, and the canary has a second period
    clock.now = 22
    assert fleet.overdue() == [(last, JobKind.CHECK)]
    fleet.mark_lost(last, "did not answer")
    assert fleet.to_check() == [] and fleet.to_remove() == [last]


def test_failures_of_one_incarnation_do_not_count_in_the_next(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "batch", JobKind.BATCH)
    assert not fleet.mark_failed(member, "batch")
    fleet.mark_lost(member, "died")
    clock.now = 5
    bring_up(fleet)
    fleet.begin(member, "batch", JobKind.BATCH)
    assert not fleet.mark_failed(member, "batch")


def test_a_fleet_without_any_process_waits_for_room_until_a_deadline(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.mark_lost(member, "was on a node that died")
    clock.now = 2
    (waiting,) = fleet.to_start()
    fleet.mark_no_room(waiting)
    assert fleet.expected() == []
    clock.now = 101
    fleet.mark_no_room(waiting)
    clock.now = 102
    with pytest.raises(DeadlineError, match=r"waited 100 s for the cluster to have room for rollout-0\.1"):
        fleet.mark_no_room(waiting)


def test_a_dead_member_no_longer_counts_as_idle(clock: Clock) -> None:
    fleet = make_fleet(clock, 2, replace(LIMITS, max_restarts=0))
    first, second = fleet.members
    for member in fleet.members:
        fleet.begin(member, "batch", JobKind.BATCH)
    clock.now = 10
    fleet.mark_lost(second, "died")
    clock.now = 30
    assert fleet.utilization == 1.0
    assert first.state is MemberState.HEALTHY and second.state is MemberState.DEAD
