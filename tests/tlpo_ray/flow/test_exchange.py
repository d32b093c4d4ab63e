"""Ledger, queue and exchange: no prompt is lost, none is learned from twice, and no group is too old."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import make_group
from tlpo_ray.errors import RecordError, UserError
from tlpo_ray.flow.curriculum import Curriculum
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, decode, encode
from tlpo_ray.flow.truncation import Truncation


def make_prompts(n: int) -> list[Prompt]:
    return [Prompt(index=i, id=f"p{i}", language="ko", text="?") for i in range(n)]


def make_exchange(n: int, *, groups: int = 2, lease_size: int = 4, capacity: int = 64, staleness: int = 0) -> Exchange:
    return Exchange(
        make_prompts(n), {}, groups_per_update=groups, lease_size=lease_size, capacity=capacity, max_staleness=staleness
    )


def roll_out(
    exchange: Exchange, holder: str, batch: list[Prompt], version: int, is_confused: Callable[[int], bool]
) -> None:
    """Do what a rollout actor does with a batch, with `is_confused(index)` in place of a model."""
    confused = [prompt.index for prompt in batch if is_confused(prompt.index)]
    results = [
        PromptResult(prompt_index=prompt.index, outcome=Outcome.CONFUSED if prompt.index in confused else Outcome.CLEAN)
        for prompt in batch
    ]
    exchange.submit(holder, results, encode([make_group(i, version) for i in confused]), version)


def test_encoded_groups_decode_equal_and_lone_surrogates_become_replacement_characters() -> None:
    group = make_group(3)
    (back,) = decode(encode([group]))
    assert back.response == "가\ufffd나" and back.lookaheads == ("a", "b\ufffd", "c", "")
    for name in ("context_ids", "candidate_ids", "old_logp", "rewards"):
        np.testing.assert_array_equal(getattr(back, name), getattr(group, name))
    assert (back.prompt_index, back.prompt_length, back.span_kind) == (3, 3, "Cyrillic")


def test_truncated_answers_are_settled_and_the_confusion_rate_counts_only_answers_that_were_not_to_be_cut() -> None:
    truncation = Truncation(max_new_tokens=8, probability=0.5, seed=0)
    exchange = Exchange(
        make_prompts(64), {}, groups_per_update=64, lease_size=64, capacity=64, max_staleness=0, truncation=truncation
    )
    whole = cut = 0
    while batch := exchange.lease("a", 1):
        indices = [prompt.index for prompt in batch]
        whole += sum(not truncation.applies_to(index) for index in indices)
        cut += sum(truncation.applies_to(index) for index in indices)
        results = [  # every answer that is cut is clean so far, every other one is confused
            PromptResult(
                prompt_index=index,
                outcome=Outcome.TRUNCATED if truncation.applies_to(index) else Outcome.CONFUSED,
            )
            for index in indices
        ]
        groups = [make_group(index) for index in indices if not truncation.applies_to(index)]
        exchange.submit("a", results, encode(groups), 0)
    status = exchange.status()
    assert (status.accounting.truncated, status.accounting.queued) == (cut, whole)
    assert cut > 0 and whole > 0 and status.accounting.balanced
    assert status.confusion_rate == 1.0
    assert exchange.take(0) is not None
    exchange.mark_learned(1)
    accounting = exchange.status().accounting
    assert accounting.complete and accounting.as_json()["truncated"] == cut


@pytest.mark.parametrize("payload", [b"", b"garbage", encode([make_group(0)])[:200]])
def test_a_payload_that_is_not_an_arrow_stream_is_refused_and_nothing_is_entered(payload: bytes) -> None:
    exchange = make_exchange(4)
    batch = exchange.lease("a", 1)
    with pytest.raises(ValueError, match="Arrow"):
        exchange.submit("a", [PromptResult(prompt_index=0, outcome=Outcome.CLEAN)], payload, 0)
    assert exchange.status().accounting.leased == len(batch)


@pytest.mark.parametrize("prompts", [[], [1], [0, 0], [0, 1]])
def test_groups_for_other_prompts_than_the_confused_ones_are_refused_and_nothing_is_entered(prompts: list[int]) -> None:
    """A confused prompt without a group would stay queued for ever."""
    exchange = make_exchange(4, lease_size=2)
    batch = exchange.lease("a", 1)
    results = [
        PromptResult(prompt_index=0, outcome=Outcome.CONFUSED),
        PromptResult(prompt_index=1, outcome=Outcome.CLEAN),
    ]
    with pytest.raises(RecordError, match="a submitted candidate groups for prompts other than those it reports"):
        exchange.submit("a", results, encode([make_group(index) for index in prompts]), 0)
    assert exchange.status().accounting.leased == len(batch)


def test_the_lease_of_a_dead_actor_is_released_and_its_late_result_is_not_accepted() -> None:
    exchange = make_exchange(8)
    batch = exchange.lease("dead", 1)
    assert exchange.release("dead") == len(batch)
    again = exchange.lease("alive", 1)
    assert [prompt.index for prompt in again] == [prompt.index for prompt in batch]
    late = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CONFUSED) for prompt in batch]
    groups = encode([make_group(prompt.index) for prompt in batch])
    assert exchange.submit("dead", late, groups, 0) == ()
    assert exchange.status().queue_depth == 0
    assert exchange.status().accounting.leased == len(again)


def test_groups_that_are_too_old_are_refused_on_admission_and_at_the_learner() -> None:
    exchange = make_exchange(8, groups=1, lease_size=8, staleness=1)
    batch = exchange.lease("a", 1)
    confused = {batch[0].index, batch[1].index}
    roll_out(exchange, "a", batch, 0, confused.__contains__)
    exchange.take(1)
    exchange.mark_learned(2)  # the group that was not taken is now two versions old
    accounting = exchange.status().accounting
    assert (accounting.confused, accounting.stale) == (1, 1)
    late = exchange.lease("a", 1)
    results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CONFUSED) for prompt in late]
    exchange.submit("a", results, encode([make_group(prompt.index, 0) for prompt in late]), 2)
    assert exchange.status().accounting.stale == 1 + len(late)


def test_at_staleness_zero_the_updates_do_not_depend_on_the_number_of_actors() -> None:
    def updates(actors: int, deaths: bool) -> list[list[int]]:
        exchange = make_exchange(2_000, groups=8, lease_size=7)

        def is_confused(index: int, version: int) -> bool:  # less often with each version, as in a real run
            return (index * 2654435761 + version * 40503) % 1000 < 300 / (1 + version / 4)

        return run_to_end(exchange, actors, is_confused, deaths)

    assert updates(1, False) == updates(2, False) == updates(5, False) == updates(3, True)


@given(
    n=st.integers(0, 60),
    groups=st.integers(1, 8),
    lease_size=st.integers(1, 16),
    staleness=st.integers(0, 3),
    actors=st.integers(1, 4),
    salt=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    deaths=st.booleans(),
)
def test_every_prompt_is_learned_from_or_settled_exactly_once(
    n: int, groups: int, lease_size: int, staleness: int, actors: int, salt: int, share: float, deaths: bool
) -> None:
    exchange = make_exchange(n, groups=groups, lease_size=lease_size, staleness=staleness)

    def is_confused(index: int, version: int) -> bool:
        return (index * 2654435761 + version * 97 + salt) % 1000 < share * 1000

    learned = run_to_end(exchange, actors, is_confused, deaths)
    status = exchange.status()
    assert status.finished and status.accounting.balanced
    counts = Counter(index for update in learned for index in update)
    assert all(count == 1 for count in counts.values())
    assert len(counts) == status.accounting.confused
    assert status.accounting.clean + status.accounting.confused + status.accounting.stale == n


def test_prompts_of_a_dead_actor_return_to_the_window() -> None:
    exchange = make_exchange(40, groups=2, lease_size=4, staleness=2)
    held = {holder: exchange.lease(holder, 2) for holder in ("a", "b", "c", "d", "e", "f")}
    assert exchange.lease("idle", 2) == [], "enough prompts are leased"
    assert exchange.release("a") == len(held["a"]) > 0
    assert exchange.lease("b2", 2)


def test_the_queue_is_bounded_by_its_capacity_and_the_leased_batches() -> None:
    exchange = make_exchange(1_000, groups=8, lease_size=8, capacity=8, staleness=10)
    deepest = 0
    for _ in range(200):
        batch = exchange.lease("a", 1)
        roll_out(exchange, "a", batch, 0, lambda index: True)
        deepest = max(deepest, exchange.status().queue_depth)
    assert deepest <= 16


def test_prompts_that_never_entered_the_run_do_not_count_as_progress() -> None:
    exchange = Exchange(
        make_prompts(10), {"too long": 90}, groups_per_update=2, lease_size=10, capacity=8, max_staleness=0
    )  # fmt: skip
    assert exchange.status().progress == 0.0
    roll_out(exchange, "a", exchange.lease("a", 1), 0, lambda index: False)
    assert 0 < exchange.status().progress <= 1


def run_to_end(
    exchange: Exchange, actors: int, is_confused: Callable[[int, int], bool], deaths: bool
) -> list[list[int]]:
    """Run the driver's loop with actors that finish one after the other; return the prompt indices of each update.

    Args:
        deaths: Let an actor die with its lease every few turns.
    """
    version, learned = 0, []
    held: dict[str, list[Prompt]] = {}
    for turn in range(100_000):
        status = exchange.status()  # polled between any two batches, as the driver does
        if status.finished:
            return learned
        if status.ready:
            learned.append([group.prompt_index for group in decode(exchange.take(version))])
            version += 1
            exchange.mark_learned(version)
            continue
        for number in range(actors):
            if not held.get(f"a{number}"):
                held[f"a{number}"] = exchange.lease(f"a{number}", actors)
        busy = sorted((holder for holder, batch in held.items() if batch), reverse=turn % 2 == 0)
        if busy:
            batch = held.pop(busy[0])
            if deaths and turn % 5 == 0:
                exchange.release(busy[0])
            else:
                roll_out(exchange, busy[0], batch, version, lambda index: is_confused(index, version))  # noqa: B023
    raise AssertionError("the run did not end")


@given(
    n=st.integers(0, 60),
    groups=st.integers(1, 8),
    lease_size=st.integers(1, 16),
    staleness=st.integers(0, 3),
    actors=st.integers(1, 4),
    salt=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    every=st.integers(2, 9),
)
def test_an_exchange_that_dies_repeatedly_loses_no_prompt_and_learns_from_none_twice(
    n: int, groups: int, lease_size: int, staleness: int, actors: int, salt: int, share: float, every: int
) -> None:
    """Each new exchange starts from the last snapshot, as JSON, while actors still hold batches of the old one."""
    exchange = make_exchange(n, groups=groups, lease_size=lease_size, staleness=staleness)
    last, version, learned = exchange.snapshot(), 0, Counter[int]()
    held: dict[str, list[Prompt]] = {}
    for turn in range(100_000):
        if turn % every == 0 and turn < 400:  # not for ever: the run could never end
            exchange = make_exchange(n, groups=groups, lease_size=lease_size, staleness=staleness)
            exchange.restore(replace(last, state=json.loads(json.dumps(last.state))))
        status = exchange.status()
        if status.finished:
            break
        if status.ready and (payload := exchange.take(version)) is not None:
            last = exchange.snapshot(with_queue=turn % 2 == 0)
            learned.update(group.prompt_index for group in decode(payload))
            version += 1
            last = exchange.mark_learned(version)
            continue
        for number in range(actors):
            if not held.get(f"a{number}"):
                held[f"a{number}"] = exchange.lease(f"a{number}", actors)
        busy = sorted((holder for holder, batch in held.items() if batch), reverse=turn % 2 == 0)
        if busy:
            batch = held.pop(busy[0])
            roll_out(exchange, busy[0], batch, version, lambda index: (index * 97 + salt) % 1000 < share * 1000)
    accounting = exchange.status().accounting
    assert accounting.complete and accounting.balanced
    assert all(count == 1 for count in learned.values())
    assert len(learned) == accounting.confused


def test_groups_in_learning_when_the_exchange_dies_are_learned_from_once() -> None:
    exchange = make_exchange(8, groups=8, lease_size=8)
    roll_out(exchange, "a", exchange.lease("a", 1), 0, lambda index: True)
    exchange.take(0)
    other = make_exchange(8, groups=8, lease_size=8)
    other.restore(exchange.snapshot())
    assert other.lease("a", 1) == []
    other.mark_learned(1)
    assert other.status().accounting.confused == exchange.status().accounting.queued == 8


def test_uninformative_answers_count_as_confused() -> None:
    """Nothing can be learned from them, but they were not clean."""
    exchange = make_exchange(8, groups=1, lease_size=8)
    assert exchange.status().confusion_rate == 0
    outcomes = (Outcome.UNINFORMATIVE, Outcome.CLEAN, Outcome.SKIPPED)
    batch = exchange.lease("a", 1)
    results = [
        PromptResult(prompt_index=prompt.index, outcome=outcome)
        for prompt, outcome in zip(batch, outcomes, strict=False)
    ]
    exchange.submit("a", results, encode([]), 0)
    assert exchange.status().confusion_rate == 1 / 2


def test_an_update_does_not_start_with_groups_that_have_just_become_too_old() -> None:
    """This happens when the learner is restored while rollouts of the previous version continue."""
    exchange = make_exchange(8, groups=2, staleness=1)
    roll_out(exchange, "a", exchange.lease("a", 1)[:2], 0, lambda index: True)
    assert exchange.status().ready
    assert exchange.take(2) is None
    accounting = exchange.status().accounting
    assert (accounting.stale, accounting.queued) == (2, 0) and accounting.balanced


def test_a_run_resumes_although_other_lines_of_its_file_are_unreadable_now() -> None:
    exchange = Exchange(make_prompts(2), {"bad": 3}, groups_per_update=1, lease_size=4, capacity=8, max_staleness=0)
    again = Exchange(make_prompts(2), {"bad": 1}, groups_per_update=1, lease_size=4, capacity=8, max_staleness=0)
    again.restore(exchange.snapshot())
    roll_out(again, "a", again.lease("a", 1), 0, lambda index: False)
    assert again.status().finished and again.status().progress == 1
    assert again.status().accounting.total == 5


def test_a_snapshot_of_other_prompts_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="the run had 9 prompts, now there are 8: resume with the prompts"):
        make_exchange(8).restore(make_exchange(9).snapshot())


def test_nothing_is_taken_before_the_groups_fill_an_update() -> None:
    exchange = make_exchange(8, groups=2, lease_size=4)
    assert exchange.take(0) is None


def test_prompts_of_a_batch_that_may_have_been_too_large_are_leased_in_batches_of_half_the_size() -> None:
    exchange = make_exchange(100, groups=100, lease_size=8)
    held = exchange.lease("a", 1)
    assert len(held) == 8 and exchange.release("a", True) == 8
    first, second, third = (exchange.lease(holder, 1) for holder in ("b", "c", "d"))
    assert [*first, *second] == held and len(first) == len(second) == 4
    assert len(third) == 8, "other prompts are leased as before"
    assert exchange.release("b", True) == 4
    assert [len(exchange.lease("e", 1)) for _ in range(2)] == [2, 2]
    exchange.release("e", True)
    singles = [exchange.lease("f", 1) for _ in range(4)]
    assert [prompt for batch in singles for prompt in batch] == first
    exchange.release("f", True)
    assert len(exchange.lease("g", 1)) == 1, "a batch has at least one prompt"


def test_halved_batches_are_filled_up_with_other_prompts_and_settled_prompts_are_forgotten() -> None:
    exchange = make_exchange(100, groups=100, lease_size=8)
    held = exchange.lease("a", 1)
    results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CLEAN) for prompt in held[:7]]
    exchange.submit("a", results, encode([]), 0)
    exchange.release("a", True)
    batch = exchange.lease("b", 1)
    assert [prompt.index for prompt in batch] == [7, 8, 9, 10]
    roll_out(exchange, "b", batch, 0, lambda index: False)
    assert not exchange._ledger._batch_sizes
    assert len(exchange.lease("b", 1)) == 8


@given(
    data=st.data(),
    n=st.integers(1, 60),
    lease_size=st.integers(1, 16),
    excluded=st.sets(st.integers(0, 59)),
)
def test_every_batch_of_a_prompt_is_at_most_half_of_the_one_before(
    data: st.DataObject, n: int, lease_size: int, excluded: set[int]
) -> None:
    """Whatever is released and settled in between, and whichever prompts a curriculum excludes."""

    class Excluding(Curriculum):
        def selects(self, prompt: Prompt) -> bool:
            return prompt.index not in excluded

    exchange = Exchange(
        make_prompts(n), {}, groups_per_update=1_000, lease_size=lease_size, capacity=1_000, max_staleness=0,
        curriculum=Excluding(0.5, 0),
    )  # fmt: skip
    largest = dict.fromkeys(range(n), lease_size)
    held: dict[str, list[Prompt]] = {}
    for turn in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(("lease", "lose", "finish"))):
            case "lease":
                held[f"a{turn}"] = batch = exchange.lease(f"a{turn}", 1)
                assert all(len(batch) <= largest[prompt.index] for prompt in batch)
            case "lose" if held:
                holder = data.draw(st.sampled_from(sorted(held)))
                batch = held.pop(holder)
                assert exchange.release(holder, True) == len(batch)
                largest |= {prompt.index: max(1, (len(batch) + len(excluded)) // 2) for prompt in batch}
            case "finish" if held:
                holder = data.draw(st.sampled_from(sorted(held)))
                roll_out(exchange, holder, held.pop(holder), 0, lambda index: False)
    assert exchange.status().accounting.balanced
