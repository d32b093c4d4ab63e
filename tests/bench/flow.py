"""The way of candidate groups from a rollout actor to the learner."""

from __future__ import annotations

import json
import pickle
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.compare import Figure, Row, compared
from tests.tiny import random_groups
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, decode, encode

GROUPS, LOT = 2048, 64


def exchange(model: Path) -> Iterator[Row]:
    """Groups through the exchange."""
    few = random_groups(model, 16)
    groups = [replace(few[number % len(few)], prompt_index=number) for number in range(GROUPS)]
    prompts = [Prompt(index=number, id="", language="ko", text="") for number in range(GROUPS)]

    def ours() -> None:
        desk = Exchange(prompts, {}, groups_per_update=8, lease_size=LOT, capacity=GROUPS, max_staleness=1_000)
        for start in range(0, GROUPS, LOT):
            leased = desk.lease("a", 1)
            results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CONFUSED) for prompt in leased]
            desk.submit("a", results, encode(groups[start : start + LOT]), 0)
            for _ in range(LOT // 8):
                decode(desk.take(0) or b"")
                desk.mark_learned(0)

    def alternative() -> None:
        queue = deque(pickle.dumps(group) for group in groups)
        while queue:
            [pickle.loads(queue.popleft()) for _ in range(8)]

    yield compared(
        f"{GROUPS:,} groups, queue to learner",
        ("Arrow batches, leases and accounting", ours),
        ("pickle, one by one, no accounting", alternative),
    )


FEW, MANY = 10_000, 1_000_000


def many_prompts(model: Path) -> Iterator[Figure]:
    """Memory for a million prompts: read, shuffled, leased and accounted for."""
    few, many = _memory(FEW), _memory(MANY)
    yield Figure(
        what=f"memory above that of the new process, {MANY:,} prompts from file to last outcome",
        value=f"{many:.1f} MiB; {FEW:,} prompts: {few:.1f} MiB",
    )


def _memory(count: int) -> float:
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=_through, args=(count, sender))
    process.start()
    found: float = receiver.recv()
    process.join()
    return found


def _through(count: int, sender: Any) -> None:
    """All prompts of a file through an exchange; what memory that took, MiB."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                file.write(json.dumps({"prompt": f"질문 {number}?" * 8, "language": "ko"}) + "\n")
        before = _anonymous_mib()
        prompts = read_prompts(DataConfig(prompts=str(folder / "prompts.jsonl")), 0, None, folder)
        desk = Exchange(prompts.prompts, {}, groups_per_update=8, lease_size=LOT, capacity=LOT, max_staleness=4)
        nothing = encode([])
        while lot := desk.lease("a", 1):
            results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CLEAN) for prompt in lot]
            desk.submit("a", results, nothing, 0)
        assert desk.status().accounting.clean == count
        sender.send(_anonymous_mib() - before)


def _anonymous_mib() -> float:
    """Memory of this process that no file stands behind."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024
