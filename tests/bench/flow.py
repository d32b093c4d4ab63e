"""The way of candidate groups from a rollout actor to the learner."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import replace
from pathlib import Path

from tests.bench.compare import Row, compared
from tests.tiny import random_groups
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, decode, encode

GROUPS, LOT = 2048, 64


def exchange(model: Path) -> Row:
    """Groups through the exchange."""
    few = random_groups(model, 16)
    groups = [replace(few[number % len(few)], prompt_index=number) for number in range(GROUPS)]
    prompts = [Prompt(index=number, id="", language="ko", text="") for number in range(GROUPS)]

    def ours() -> None:
        desk = Exchange(prompts, {}, groups_per_update=8, lot=LOT, capacity=GROUPS, max_staleness=1_000)
        for start in range(0, GROUPS, LOT):
            leased = desk.lease("a", 1)
            results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CONFUSED) for prompt in leased]
            desk.deliver("a", results, encode(groups[start : start + LOT]), 0)
        for _ in range(GROUPS // 8):
            decode(desk.take(0))
            desk.learned(0)

    def alternative() -> None:
        queue = deque(pickle.dumps(group) for group in groups)
        while queue:
            [pickle.loads(queue.popleft()) for _ in range(8)]

    return compared(
        f"{GROUPS:,} groups, queue to learner",
        ("Arrow lots, leases and accounts", ours),
        ("pickle, one by one, no accounts", alternative),
    )
