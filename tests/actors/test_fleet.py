"""The rollout fleet's state machine, with a clock that the tests turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fleet import Fleet, Kind, Limits, Member, State
from tlpo_ray.errors import DeadlineError, TlpoError

DEADLINES = dict.fromkeys(Kind, 100.0) | {Kind.CHECK: 10.0}
LIMITS = Limits(
    deadlines=DEADLINES, lots=2, heartbeat_s=10, max_restarts=3, backoff_s=1, backoff_limit_s=8, min_healthy=1
)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_fleet(clock: Clock, size: int = 2, limits: Limits = LIMITS) -> Fleet:
    """A fleet that has started and holds policy version 0."""
    fleet = Fleet(size, limits, clock)
    fleet.publish(0)
    bring_up(fleet)
    return fleet


def bring_up(fleet: Fleet) -> None:
    for member in fleet.to_start():
        fleet.begin(member, "start", Kind.START)
        fleet.done(member, "start")
    for member in fleet.to_sync():
        fleet.begin(member, "sync", Kind.SYNC)
        fleet.done(member, "sync")


def states(fleet: Fleet) -> list[State]:
    return [member.state for member in fleet.members]


def test_only_a_completed_sync_makes_a_member_healthy(clock: Clock) -> None:
    fleet = Fleet(1, LIMITS, clock)
    (member,) = fleet.to_start()
    fleet.begin(member, "start", Kind.START)
    assert states(fleet) == [State.STARTING]
    fleet.done(member, "start")
    assert states(fleet) == [State.STALE]
    assert not fleet.to_sync(), "nothing is published"
    fleet.publish(3)
    assert not fleet.free()
    fleet.begin(member, "sync", Kind.SYNC)
    assert not fleet.free()
    fleet.done(member, "sync")
    assert states(fleet) == [State.HEALTHY]
    assert fleet.free() == [member]


def test_who_loads_a_version_that_is_old_by_then_loads_again(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    fleet.publish(1)
    (member,) = fleet.to_sync()
    fleet.begin(member, "sync", Kind.SYNC)
    fleet.publish(2)
    fleet.done(member, "sync")
    assert (member.version, member.state) == (1, State.STALE)
    assert fleet.to_sync() == [member]


def test_lots_in_flight_are_finished_before_new_weights_are_loaded(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.free()
    fleet.begin(member, "a", Kind.LOT)
    assert fleet.free() == [member], "the next lot fills the engine while the first ends"
    fleet.begin(member, "b", Kind.LOT)
    assert not fleet.free()
    fleet.publish(1)
    fleet.done(member, "a")
    assert not fleet.free() and not fleet.to_sync()
    fleet.done(member, "b")
    assert fleet.to_sync() == [member]


def test_the_idlest_member_is_sent_a_lot_first(clock: Clock) -> None:
    fleet = make_fleet(clock, 3)
    first, second, third = fleet.members
    fleet.begin(first, "a", Kind.LOT)
    fleet.begin(second, "b", Kind.LOT)
    fleet.begin(second, "c", Kind.LOT)
    assert fleet.free() == [third, first]


def test_who_sleeps_gets_no_work_before_it_has_weights_again(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "sleep", Kind.SLEEP)
    fleet.done(member, "sleep")
    assert not fleet.free() and fleet.to_sync() == [member]
    fleet.begin(member, "load", Kind.SYNC)
    fleet.done(member, "load")
    assert fleet.free() == [member]


def test_a_slow_sync_holds_nobody_up(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.publish(1)
    slow, quick = fleet.to_sync()
    fleet.begin(slow, "slow", Kind.SYNC)
    fleet.begin(quick, "quick", Kind.SYNC)
    fleet.done(quick, "quick")
    assert fleet.free() == [quick]
    clock.now = 100
    assert fleet.overdue() == [(slow, Kind.SYNC)]


def test_silence_asks_for_the_canary_then_suspects_then_gives_up(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    clock.now = 9
    assert not fleet.to_check()
    assert fleet.next_event() == 10
    clock.now = 10
    assert fleet.to_check() == [member]
    fleet.begin(member, "canary", Kind.CHECK)
    assert not fleet.to_check()
    clock.now = 20
    assert not fleet.overdue()
    assert states(fleet) == [State.SUSPECT]
    assert not fleet.free()
    clock.now = 30
    assert fleet.overdue() == [(member, Kind.CHECK)]


def test_a_late_canary_clears_a_suspect(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    clock.now = 10
    fleet.begin(member, "canary", Kind.CHECK)
    clock.now = 20
    assert not fleet.overdue()
    fleet.done(member, "canary")
    assert states(fleet) == [State.HEALTHY]
    clock.now = 29
    assert not fleet.to_check(), "it has been heard"


def test_an_idle_member_is_not_asked_for_canaries(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    clock.now = 1_000
    assert not fleet.to_check()
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    assert not fleet.to_check(), "silence begins with the work"


def test_a_failed_request_is_forgiven_once_when_the_canary_is_right(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    assert not fleet.failed(member, "lot")
    assert not fleet.free()
    assert fleet.to_check() == [member]
    fleet.begin(member, "canary", Kind.CHECK)
    fleet.done(member, "canary")
    assert fleet.free() == [member]
    fleet.begin(member, "again", Kind.LOT)
    assert fleet.failed(member, "again"), "no work done between: give it up"


def test_a_wrong_canary_is_the_end_of_a_life(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    fleet.failed(member, "lot")
    fleet.begin(member, "canary", Kind.CHECK)
    assert fleet.failed(member, "canary")


def test_the_back_off_stays_at_its_limit_however_often_a_member_dies(clock: Clock) -> None:
    fleet = make_fleet(clock, 1, replace(LIMITS, max_restarts=10_000))
    (member,) = fleet.members
    for _ in range(2_000):
        fleet.lose(member, "died")
        assert member.start_at <= clock.now + LIMITS.backoff_limit_s
        clock.now = member.start_at
        assert fleet.to_start() == [member]
        fleet.begin(member, "start", Kind.START)


def test_the_back_off_doubles_until_work_is_done_again(clock: Clock) -> None:
    fleet = make_fleet(clock, 1, replace(LIMITS, max_restarts=100))
    (member,) = fleet.members
    waits = []
    for _ in range(6):
        fleet.lose(member, "died")
        waits.append(member.start_at - clock.now)
        assert not fleet.to_start()
        assert fleet.next_event() == member.start_at
        clock.now = member.start_at
        bring_up(fleet)
    assert waits == [1, 2, 4, 8, 8, 8]
    fleet.begin(member, "lot", Kind.LOT)
    fleet.done(member, "lot")
    fleet.lose(member, "died")
    assert member.start_at - clock.now == 1


def test_every_life_has_a_name_of_its_own(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    before = member.name
    fleet.lose(member, "died")
    assert member.name != before
    assert member.version is None
    assert not member.jobs


def test_the_fleet_goes_on_without_its_dead_and_stops_below_min_healthy(clock: Clock) -> None:
    fleet = make_fleet(clock, 3, replace(LIMITS, max_restarts=1, min_healthy=2))
    first, second, third = fleet.members
    fleet.lose(first, "died")
    fleet.lose(second, "died")
    assert states(fleet) == [State.RESTARTING, State.DEAD, State.HEALTHY]
    with pytest.raises(TlpoError, match=r"rollout-2.0 did not answer, all 1 restarts .* 1 .* left of at least 2"):
        fleet.lose(third, "did not answer")


def test_who_ends_because_of_another_takes_no_restart(clock: Clock) -> None:
    fleet = make_fleet(clock, 3, replace(LIMITS, max_restarts=1))
    for number, member in enumerate(fleet.members):
        fleet.lose(member, "was in a broadcast that failed", counted=number == 0)
    assert fleet.restarts == 1
    assert set(states(fleet)) == {State.RESTARTING}


def test_a_start_that_takes_too_long_ends_the_run(clock: Clock) -> None:
    fleet = Fleet(1, LIMITS, clock)
    fleet.begin(fleet.members[0], "start", Kind.START)
    clock.now = 100
    with pytest.raises(DeadlineError, match=r"waited 100 s for rollout actor rollout-0.0 to start"):
        fleet.overdue()


def test_a_run_waits_for_room_only_so_long_but_who_joins_later_waits_for_ever(clock: Clock) -> None:
    fleet = Fleet(1, LIMITS, clock)
    (member,) = fleet.to_start()
    fleet.no_room(member)
    assert states(fleet) == [State.PENDING]
    assert not fleet.to_start() and fleet.next_event() > clock.now
    clock.now = 100
    assert fleet.to_start() == [member]
    with pytest.raises(DeadlineError, match=r"waited 100 s for the cluster to have room for rollout-0.0"):
        fleet.no_room(member)
    fleet = make_fleet(clock, 1)
    fleet.resize(2)
    for _ in range(3):
        clock.now += 1_000
        (joining,) = fleet.to_start()
        fleet.no_room(joining)
    assert states(fleet) == [State.HEALTHY, State.PENDING]
    assert fleet.resting and fleet.quiet, "nobody waits for it"


def test_a_restart_that_takes_too_long_is_a_loss_not_the_end(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.lose(member, "died")
    fleet.begin(member, "start", Kind.START)
    clock.now = 200
    assert fleet.overdue() == [(member, Kind.START)]


def test_a_fleet_grows_and_shrinks(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (old,) = fleet.members
    fleet.resize(3)
    assert len(fleet.to_start()) == 2
    bring_up(fleet)
    assert len(fleet.free()) == 3
    last = fleet.members[-1]
    fleet.begin(last, "lot", Kind.LOT)
    fleet.resize(1)
    assert fleet.free() == [old]
    assert fleet.present() == [old]
    assert last not in fleet.to_end(), "it finishes what it does"
    fleet.done(last, "lot")
    for member in fleet.to_end():
        fleet.left(member)
    assert fleet.members == [old]


def test_who_is_not_there_leaves_first(clock: Clock) -> None:
    """The node of the oldest is gone, and there is no other: the one that works is kept."""
    fleet = make_fleet(clock, 2)
    first, second = fleet.members
    fleet.lose(first, "died with its node")
    fleet.no_room(first)
    fleet.resize(1)
    assert fleet.present() == [second]


def test_a_leaving_member_that_dies_is_not_missed(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.begin(fleet.members[1], "lot", Kind.LOT)
    fleet.resize(1)
    fleet.lose(fleet.members[1], "died")
    assert fleet.restarts == 0
    assert fleet.to_end() == [fleet.members[1]]


def test_new_numbers_are_never_those_of_before(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    fleet.resize(1)
    fleet.resize(2)
    numbers = [member.number for member in fleet.members]
    assert len(set(numbers)) == len(numbers) == 3


def test_busy_is_the_share_of_time_with_a_lot(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    first, second = fleet.members
    fleet.begin(first, "a", Kind.LOT)
    fleet.begin(second, "b", Kind.LOT)
    clock.now = 5
    fleet.begin(second, "c", Kind.LOT)
    fleet.done(second, "b")
    clock.now = 10
    fleet.done(first, "a")
    clock.now = 20
    assert fleet.busy == pytest.approx((10 + 20) / 40)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_happens_only_fit_members_work(data: st.DataObject) -> None:
    """Any order of events: lots only for who has the published weights, and each life starts and syncs first."""
    clock = Clock()
    fleet = Fleet(data.draw(st.integers(1, 4)), replace(LIMITS, max_restarts=50), clock)
    keys = iter(range(10_000))
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.sampled_from(("start", "sync", "lot", "check", "done", "fail", "die", "publish", "time"))):
            case "start":
                begin_all(fleet, fleet.to_start(), Kind.START, keys)
            case "sync":
                begin_all(fleet, fleet.to_sync(), Kind.SYNC, keys)
            case "check":
                begin_all(fleet, fleet.to_check(), Kind.CHECK, keys)
            case "lot":
                for member in fleet.free():
                    assert member.version == fleet.version is not None
                begin_all(fleet, fleet.free(), Kind.LOT, keys)
            case "publish":
                fleet.publish(data.draw(st.integers(0, 9)))
            case "time":
                clock.now += data.draw(st.floats(0, 20))
                give_up(fleet)
            case ending:
                end_one(fleet, ending, data)
        for member in fleet.members:
            assert (member.state is State.HEALTHY) <= (member.version == fleet.version)
            assert member.doing(Kind.LOT) <= LIMITS.lots
            assert member.doing(Kind.SYNC) == 0 or len(member.jobs) == 1
            assert not (member.state is State.RESTARTING and member.jobs)
        assert 0 <= fleet.busy <= 1 + 1e-9


def begin_all(fleet: Fleet, members: list[Member], kind: Kind, keys: object) -> None:
    for member in members:
        fleet.begin(member, next(keys), kind)  # type: ignore[call-overload]


def end_one(fleet: Fleet, ending: str, data: st.DataObject) -> None:
    running = [(member, key) for member in fleet.members for key in member.jobs]
    if not running:
        return
    member, key = data.draw(st.sampled_from(running))
    if ending == "done":
        fleet.done(member, key)
    elif ending == "die" or fleet.failed(member, key):
        fleet.lose(member, "was lost")


def give_up(fleet: Fleet) -> None:
    try:
        for member, kind in fleet.overdue():
            fleet.lose(member, f"did not {kind} in time")
    except DeadlineError:  # would end a run
        for member in fleet.members:
            member.start_by = None


def test_a_leaving_member_that_is_lost_while_it_is_suspect_is_asked_nothing_more(clock: Clock) -> None:
    fleet = make_fleet(clock, 2)
    last = fleet.members[1]
    fleet.begin(last, "lot", Kind.LOT)
    fleet.resize(1)
    fleet.begin(last, "check", Kind.CHECK)
    clock.now = 11
    assert fleet.overdue() == []  # it is suspect now, and the canary has once more as long
    clock.now = 22
    assert fleet.overdue() == [(last, Kind.CHECK)]
    fleet.lose(last, "did not answer")
    assert fleet.to_check() == [] and fleet.to_end() == [last]


def test_what_failed_in_one_life_does_not_count_in_the_next(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.begin(member, "lot", Kind.LOT)
    assert not fleet.failed(member, "lot")
    fleet.lose(member, "died")
    clock.now = 5
    bring_up(fleet)
    fleet.begin(member, "lot", Kind.LOT)
    assert not fleet.failed(member, "lot")


def test_a_fleet_that_is_gone_waits_for_room_no_longer_than_the_deadline(clock: Clock) -> None:
    fleet = make_fleet(clock, 1)
    (member,) = fleet.members
    fleet.lose(member, "was on a node that died")
    clock.now = 2
    (waiting,) = fleet.to_start()
    fleet.no_room(waiting)
    assert fleet.expected() == []
    clock.now = 101
    fleet.no_room(waiting)
    clock.now = 102
    with pytest.raises(DeadlineError, match=r"waited 100 s for the cluster to have room for rollout-0\.1"):
        fleet.no_room(waiting)


def test_who_is_dead_for_good_no_longer_counts_as_idle(clock: Clock) -> None:
    fleet = make_fleet(clock, 2, replace(LIMITS, max_restarts=0))
    first, second = fleet.members
    for member in fleet.members:
        fleet.begin(member, "lot", Kind.LOT)
    clock.now = 10
    fleet.lose(second, "died")
    clock.now = 30
    assert fleet.busy == 1.0
    assert first.state is State.HEALTHY and second.state is State.DEAD
