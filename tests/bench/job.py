"""Whole jobs on the real stack: the quickstart, cut to the size that the public trainer was measured at."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.compare import Figure

PROMPTS = 3_072
"""384 prompts, 8 answers each."""
PUBLIC_S = (282, 300)
"""Of the paper's public trainer with the same numbers of prompts, answers, confusion points, on two cores."""
MANY_UPDATES = ("learner.lr=3e-5", "learner.lr_min=3e-6")
"""So slow a learner that confusion lasts: as many updates as the public trainer made."""
ONE = ("rollout.num_actors=1", "learner.num_ranks=1")
HALF = (*ONE, "learner.num_iterations=24", *MANY_UPDATES)
"""The learner takes about as long as the rollouts."""
SEEDS = (0, 1, 2)


def whole(model: Path) -> Iterator[Figure]:
    """The same prompts, answers and updates, from start-up to the exported model."""
    folder = model.parent
    yield Figure(
        what="the paper's public trainer, measured once for this comparison",
        value=f"{PUBLIC_S[0]} to {PUBLIC_S[1]} s for {PROMPTS:,} answers and 37 to 42 updates",
    )
    yield from _told("2 rollout actors, 2 learner ranks", _runs(folder / "two"))
    yield from _told("the same, a slower learning rate", _runs(folder / "slow", *MANY_UPDATES))
    yield from _told("1 rollout actor, 1 learner rank", _runs(folder / "one", *ONE))


def ahead(model: Path) -> Iterator[Figure]:
    """Rollouts that go on while the learner learns, where each takes half of the time."""
    turns = _runs(model.parent / "turns", *HALF)
    yield from _told("on-policy", turns)
    for staleness in (1, 2, 4):
        for repaired in (False, True):
            settings = (f"flow.max_staleness={staleness}", f"learner.recompute_old_logprobs={str(repaired).lower()}")
            found = _runs(model.parent / f"ahead-{staleness}-{repaired}", *HALF, *settings)
            what = f"up to {staleness} versions ahead" + (", recomputed" if repaired else "")
            yield from _told(what, found)
            gains = [_rate(one) / _rate(before) for one, before in zip(found, turns, strict=True)]
            prompts = [_prompt_rate(one) / _prompt_rate(before) for one, before in zip(found, turns, strict=True)]
            yield Figure(
                what=f"{what}, relative to on-policy",
                value=(
                    f"{_spread(gains, '.2f')}x groups learned per second, {_spread(prompts, '.2f')}x prompts per second"
                ),
            )


def _rate(result: dict[str, Any]) -> float:
    return float(result["prompts"]["confused"] / result["seconds"]["train"])


def _prompt_rate(result: dict[str, Any]) -> float:
    return float(result["prompts"]["total"] / result["seconds"]["train"])


def _told(what: str, results: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    def over(*path: str) -> list[float]:
        found: list[Any] = list(results)
        for key in path:
            found = [one[key] for one in found]
        return found

    yield Figure(
        what=f"{what}, training",
        value=(
            f"{_spread(over('seconds', 'train'), '.1f')} s, of which waiting for groups "
            f"{_spread(over('seconds', 'train_collect'), '.1f')}, updates "
            f"{_spread(over('seconds', 'train_update'), '.1f')}, weights "
            f"{_spread(over('seconds', 'train_publish'), '.1f')}; start-up {_spread(over('seconds', 'start'), '.0f')} s"
        ),
    )
    yield Figure(
        what=f"{what}, outcome",
        value=(
            f"{_spread(over('updates'), '.0f')} updates, RPR {_spread(over('rpr_before'), '.3f')} to "
            f"{_spread(over('rpr_after'), '.4f')}, accuracy {_spread(over('accuracy_after'), '.4f')}, "
            f"{_spread(over('prompts', 'stale'), '.0f')} groups too old, rollout utilization "
            f"{_spread(over('rollout_utilization'), '.2f')}"
        ),
    )


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and in brackets the least and the greatest."""
    low, middle, high = (format(pick(values), form) for pick in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def _runs(folder: Path, *settings: str) -> list[dict[str, Any]]:
    """`result.json` of a run a seed."""
    return [_run(folder.with_name(f"{folder.name}-{seed}"), "--seed", str(seed), *settings) for seed in SEEDS]


def _run(folder: Path, *settings: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("tlpo")), "quickstart", f"data.limit={PROMPTS}", f"folder={folder}"]
    subprocess.run([*command, *settings], check=True, capture_output=True, timeout=900)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    last = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return found | {"rollout_utilization": json.loads(last)["rollout_utilization"]}
