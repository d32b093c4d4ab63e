"""What a run counts, and how it is continued."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tlpo_ray.flow.records import RolloutStats
from tlpo_ray.run.counters import Incidents, RateMeter, RunCounters

STATS = RolloutStats(
    sampled=5, clean=3, tokens_generated=50, tokens_discarded=2, tokens_clean=30,
    by_language={"ko": (3, 2), "ja": (2, 1)}, kv_cache_usage=0.25,
)  # fmt: skip
EARLIER: dict[str, Any] = {
    "sampled": 5, "clean": 3, "tokens_generated": 50, "tokens_discarded": 2, "tokens_clean": 30,
    "by_language": {"ko": [3, 2], "ja": [2, 1]}, "kv_use": 0.25,
    "earlier": {"restarts": 2, "learner_restarts": 1, "exchange_restarts": 0, "canary": 1e-6},
    "seconds": {"collect": 1.5, "update": 2.5, "publish": 0.5, "export": 0.0},
}  # fmt: skip
"""Counters as the first release wrote them into the journal."""


def test_stats_of_batches_add_up() -> None:
    other = RolloutStats(
        sampled=2, clean=2, tokens_clean=7, by_language={"ko": (1, 1), "zh": (1, 1)}, kv_cache_usage=0.5
    )
    total = STATS + other
    assert (total.sampled, total.clean, total.tokens_generated, total.tokens_clean) == (7, 5, 50, 37)
    assert total.by_language == {"ko": (4, 3), "ja": (2, 1), "zh": (1, 1)}
    assert total.kv_cache_usage == 0.5
    assert STATS + RolloutStats() == RolloutStats() + STATS == STATS
    assert total.rpr == 5 / 7 and RolloutStats().rpr == 1
    assert total.confusion_rates == {"ja": 0.5, "ko": 0.25, "zh": 0.0}


def test_counters_survive_the_journal() -> None:
    counters = RunCounters(rollouts=STATS, seconds={"collect": 1.5})
    incidents = Incidents(actor_restarts=2, canary=1e-6)
    restored = RunCounters.from_json(json.loads(json.dumps(counters.to_json(incidents))))
    assert restored == RunCounters(rollouts=STATS, earlier=incidents, seconds={"collect": 1.5})


def test_counters_of_the_first_release_are_read() -> None:
    restored = RunCounters.from_json(EARLIER)
    assert restored.rollouts == STATS
    assert restored.earlier == Incidents(actor_restarts=2, learner_restarts=1, canary=1e-6)
    assert restored.seconds == EARLIER["seconds"]


def test_incidents_add_up_and_the_largest_difference_counts() -> None:
    total = Incidents(actor_restarts=1, canary=0.1) + Incidents(actor_restarts=2, exchange_restarts=1, canary=0.05)
    assert total == Incidents(actor_restarts=3, exchange_restarts=1, canary=0.1)


def test_a_rate_is_that_of_the_last_minute() -> None:
    now = [0.0]
    meter = RateMeter(lambda: now[0])
    assert meter.update(0) == 0
    for second in range(10, 201, 10):
        now[0] = second
        rate = meter.update(2 * second if second <= 100 else 200)
    assert rate == 0
    now[0] = 210
    assert meter.update(270) == pytest.approx(1.0, abs=0.2)
