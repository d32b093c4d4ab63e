"""The queue in front of engines that serve batches of one kind of request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.batch_scheduler import BatchScheduler
from actors.requests import GreedyRequest, MultinomialRequest, SampleRequest, TopKRequest

SAMPLE = SampleRequest(prompt_ids=(1,), max_new_tokens=1, temperature=0, seed=None)
TOP_K = TopKRequest(context_ids=(1,), n=1)
MULTINOMIAL = MultinomialRequest(context_ids=(1,), n=1, seed=0)
GREEDY = GreedyRequest(contexts=((1,),), max_new_tokens=1)


def test_a_step_serves_all_requests_of_the_earliest_stage_in_their_order() -> None:
    batches: list[list[Any]] = []

    def serve(requests: Sequence[Any]) -> list[int]:
        batches.append(list(requests))
        return [len(batches) * 10 + number for number in range(len(requests))]

    scheduler = BatchScheduler()
    results: list[tuple[str, int]] = []
    for name, request in (
        ("greedy", GREEDY), ("top 1", TOP_K), ("a", SAMPLE), ("draw", MULTINOMIAL), ("top 2", TOP_K), ("b", SAMPLE),
    ):  # fmt: skip
        scheduler.submit(request, lambda result, name=name: results.append((name, result)))  # type: ignore[misc]
    while scheduler.step(serve):
        pass
    assert batches == [[SAMPLE, SAMPLE], [TOP_K, TOP_K], [MULTINOMIAL], [GREEDY]]
    assert results == [("a", 10), ("b", 11), ("top 1", 20), ("top 2", 21), ("draw", 30), ("greedy", 40)]


def test_requests_submitted_by_a_callback_wait_for_the_next_step() -> None:
    sizes: list[int] = []

    def serve(requests: Sequence[Any]) -> list[None]:
        sizes.append(len(requests))
        return [None] * len(requests)

    scheduler = BatchScheduler()

    def ask_again(result: object) -> None:
        if len(sizes) < 3:
            scheduler.submit(SAMPLE, ask_again)

    for _ in range(2):
        scheduler.submit(SAMPLE, ask_again)
    assert scheduler.step(serve) and sizes == [2]
    assert scheduler.step(serve) and sizes == [2, 2]
    assert not scheduler.step(serve)
    assert not scheduler.step(serve), "an empty queue stays empty"
    assert sizes == [2, 2, 2]


def test_a_step_has_at_most_so_many_sequences_but_at_least_one_request() -> None:
    """A slow engine has results to show between two steps."""
    steps: list[list[Any]] = []

    def serve(requests: Sequence[Any]) -> list[None]:
        steps.append(list(requests))
        return [None] * len(requests)

    scheduler = BatchScheduler(max_sequences=3)
    pair = GreedyRequest(contexts=((1,), (2,)), max_new_tokens=1)
    many = GreedyRequest(contexts=((1,),) * 5, max_new_tokens=1)
    for request in (GREEDY, pair, pair, many, GREEDY, SAMPLE, SAMPLE, SAMPLE, SAMPLE):
        scheduler.submit(request, lambda result: None)
    while scheduler.step(serve):
        pass
    assert steps == [[SAMPLE] * 3, [SAMPLE], [GREEDY, pair], [pair], [many], [GREEDY]]
