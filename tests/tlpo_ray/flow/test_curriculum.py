"""Yield-aware prompts: what is confused is asked more often, all is asked now and then, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tlpo_ray.flow.test_exchange import roll
from tlpo_ray.flow.curriculum import EXCLUDED, Curriculum
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Prompt

QUESTIONS, TIMES = 40, 100


def make_prompts(times: int = TIMES) -> list[Prompt]:
    """Forty questions, again and again: half in Korean, half in Japanese."""
    return [
        Prompt(index=i, id=f"p{i}", language=("ko", "ja")[i % 2], text=f"question {i % QUESTIONS}")
        for i in range(QUESTIONS * times)
    ]


def run(focus: Curriculum | None, *, actors: int = 1, staleness: int = 0) -> tuple[list[int], Exchange]:
    """Only every tenth question is ever confused; indices of the prompts that were asked."""
    exchange = Exchange(
        make_prompts(), {}, groups_per_update=4, lease_size=8, capacity=64, max_staleness=staleness, curriculum=focus
    )
    asked: list[int] = []
    version = 0
    while not exchange.status().finished:
        lots = {f"a{n}": exchange.lease(f"a{n}", actors) for n in range(actors)}
        for holder, lot in reversed(lots.items()):
            asked += [prompt.index for prompt in lot]
            roll(exchange, holder, lot, version, lambda index: index % QUESTIONS % 10 == 0)
        if exchange.status().ready:
            exchange.take(version)
            version += 1
            exchange.mark_learned(version)
    return asked, exchange


def test_without_a_focus_all_are_asked_and_with_one_those_that_are_confused() -> None:
    everything, _ = run(None)
    assert set(everything) == set(range(QUESTIONS * TIMES))
    asked, exchange = run(Curriculum(0.1, seed=0))
    share = Counter(index % QUESTIONS % 10 == 0 for index in asked)
    assert share[True] / len(asked) > 0.4 > 0.1, "one in ten is confused"
    late = Counter(index % QUESTIONS for index in asked if index >= QUESTIONS * TIMES // 4)
    assert len(late) == QUESTIONS, "the floor asks for everything now and then"
    accounting = exchange.status().accounting
    assert accounting.balanced and accounting.complete
    assert accounting.skipped == {EXCLUDED: QUESTIONS * TIMES - len(set(asked))}


@pytest.mark.parametrize("actors", [2, 5])
def test_at_staleness_zero_the_number_of_actors_changes_nothing(actors: int) -> None:
    assert sorted(run(Curriculum(0.1, seed=3), actors=actors)[0]) == sorted(run(Curriculum(0.1, seed=3))[0])


def test_it_works_while_rollouts_run_ahead() -> None:
    asked, exchange = run(Curriculum(0.1, seed=0), actors=3, staleness=2)
    assert exchange.status().accounting.complete and len(asked) < QUESTIONS * TIMES / 2


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60), st.floats(0.01, 1))
def test_a_chance_is_never_below_the_floor_and_the_order_of_results_does_not_matter(
    results: list[tuple[int, bool]], floor: float
) -> None:
    prompts = make_prompts(1)
    results = list({index: (index, confused) for index, confused in results}.values())
    one, other = Curriculum(floor, 0), Curriculum(floor, 0)
    for focus, order in ((one, results), (other, results[::-1])):
        for index, confused in order:
            focus.observe(prompts[index], confused)
        assert all(focus.chance(prompt) == 1 for prompt in prompts), "nothing counts before a fold"
        focus.fold()
    for prompt in prompts:
        assert one.chance(prompt) == other.chance(prompt) and floor <= one.chance(prompt) <= 1
        assert one.wants(prompt) == one.wants(prompt)
