"""Curriculum: prompts that are often confused are rolled out more often, and no prompt is lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tlpo_ray.flow.test_exchange import roll_out
from tlpo_ray.flow.curriculum import EXCLUDED, Curriculum
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Prompt

QUESTIONS, TIMES = 40, 100


def make_prompts(times: int = TIMES) -> list[Prompt]:
    """Return the forty questions `times` times: half of them in Korean, half in Japanese."""
    return [
        Prompt(index=i, id=f"p{i}", language=("ko", "ja")[i % 2], text=f"question {i % QUESTIONS}")
        for i in range(QUESTIONS * times)
    ]


def make_exchange(curriculum: Curriculum | None, *, staleness: int = 0) -> Exchange:
    return Exchange(
        make_prompts(),
        {},
        groups_per_update=4,
        lease_size=8,
        capacity=64,
        max_staleness=staleness,
        curriculum=curriculum,
    )


def run(curriculum: Curriculum | None, *, actors: int = 1, staleness: int = 0) -> tuple[list[int], Exchange]:
    """Run to the end with every tenth question confused; return the indices of the prompts that were rolled out."""
    exchange = make_exchange(curriculum, staleness=staleness)
    rolled_out: list[int] = []
    version = 0
    while not exchange.status().finished:
        batches = {f"a{n}": exchange.lease(f"a{n}", actors) for n in range(actors)}
        for holder, batch in reversed(batches.items()):
            rolled_out += [prompt.index for prompt in batch]
            roll_out(exchange, holder, batch, version, lambda index: index % QUESTIONS % 10 == 0)
        if exchange.status().ready:
            exchange.take(version)
            version += 1
            exchange.mark_learned(version)
    return rolled_out, exchange


def test_a_curriculum_rolls_out_confused_prompts_more_often_and_without_one_all_are_rolled_out() -> None:
    everything, _ = run(None)
    assert set(everything) == set(range(QUESTIONS * TIMES))
    rolled_out, exchange = run(Curriculum(0.1, seed=0))
    share = Counter(index % QUESTIONS % 10 == 0 for index in rolled_out)
    assert share[True] / len(rolled_out) > 0.4 > 0.1, "one in ten is confused"
    late = Counter(index % QUESTIONS for index in rolled_out if index >= QUESTIONS * TIMES // 4)
    assert len(late) == QUESTIONS, "the minimum probability keeps every question in the run"
    accounting = exchange.status().accounting
    assert accounting.balanced and accounting.complete
    assert accounting.skipped == {EXCLUDED: QUESTIONS * TIMES - len(set(rolled_out))}


@pytest.mark.parametrize("actors", [2, 5])
def test_at_staleness_zero_the_selection_does_not_depend_on_the_number_of_actors(actors: int) -> None:
    assert sorted(run(Curriculum(0.1, seed=3), actors=actors)[0]) == sorted(run(Curriculum(0.1, seed=3))[0])


def test_a_curriculum_works_while_rollouts_run_ahead_of_the_learner() -> None:
    rolled_out, exchange = run(Curriculum(0.1, seed=0), actors=3, staleness=2)
    assert exchange.status().accounting.complete and len(rolled_out) < QUESTIONS * TIMES / 2


@pytest.mark.parametrize("key", ["curriculum", "focus"])
def test_confusion_rates_survive_a_restart_also_under_the_key_of_earlier_releases(key: str) -> None:
    """Journals that were written by commit b23ca43 have `focus`."""
    curriculum = Curriculum(0.1, seed=0)
    _, exchange = run(curriculum)
    snapshot = exchange.snapshot()
    state = {{"curriculum": key}.get(name, name): value for name, value in snapshot.state.items()}
    restored = Curriculum(0.1, seed=0)
    make_exchange(restored).restore(replace(snapshot, state=json.loads(json.dumps(state))))
    assert restored.snapshot() == curriculum.snapshot() and len(restored.snapshot()) == 2


def test_a_snapshot_of_an_earlier_release_without_a_curriculum_is_restored() -> None:
    snapshot = make_exchange(None).snapshot()
    state = {{"curriculum": "focus"}.get(name, name): value for name, value in snapshot.state.items()}
    assert state["focus"] is None
    exchange = make_exchange(None)
    exchange.restore(replace(snapshot, state=state))
    assert exchange.snapshot().state == snapshot.state


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60), st.floats(0.01, 1))
def test_a_probability_is_never_below_the_minimum_and_does_not_depend_on_the_order_of_results(
    results: list[tuple[int, bool]], minimum: float
) -> None:
    prompts = make_prompts(1)
    results = list({index: (index, confused) for index, confused in results}.values())
    forwards, backwards = Curriculum(minimum, 0), Curriculum(minimum, 0)
    for curriculum, ordered in ((forwards, results), (backwards, results[::-1])):
        for index, confused in ordered:
            curriculum.observe(prompts[index], confused)
        assert all(curriculum.probability(prompt) == 1 for prompt in prompts), "nothing counts before a fold"
        curriculum.fold()
    for prompt in prompts:
        assert forwards.probability(prompt) == backwards.probability(prompt)
        assert minimum <= forwards.probability(prompt) <= 1
        assert forwards.selects(prompt) == forwards.selects(prompt)
