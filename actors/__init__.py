"""Rollout actors: prompts in, candidate groups out. Here are the names for users and for authors of inference engines.

>>> from actors import build_worker
>>> worker = build_worker(config.model, config.rollout, config.detector, seed=0)
>>> worker.run_batch(prompts).groups

Names are imported when they are first used, so `import actors` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from actors.batch_scheduler import BatchScheduler
    from actors.completions import Completion
    from actors.engine import (
        BroadcastEngine,
        DecodingEngine,
        EngineFactory,
        EngineOptions,
        ObservableEngine,
        SleepingEngine,
        TokenEngine,
        run_all,
    )
    from actors.requests import (
        CandidateSet,
        DecodingRule,
        EngineRequest,
        GreedyRequest,
        MultinomialRequest,
        SampleRequest,
        TopKRequest,
    )
    from actors.worker import RolloutWorker, build_worker

__all__ = [
    "BatchScheduler",
    "BroadcastEngine",
    "CandidateSet",
    "Completion",
    "DecodingEngine",
    "DecodingRule",
    "EngineFactory",
    "EngineOptions",
    "EngineRequest",
    "GreedyRequest",
    "MultinomialRequest",
    "ObservableEngine",
    "RolloutWorker",
    "SampleRequest",
    "SleepingEngine",
    "TokenEngine",
    "TopKRequest",
    "build_worker",
    "run_all",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "BatchScheduler": "actors.batch_scheduler",
        "BroadcastEngine": "actors.engine",
        "CandidateSet": "actors.requests",
        "Completion": "actors.completions",
        "DecodingEngine": "actors.engine",
        "DecodingRule": "actors.requests",
        "EngineFactory": "actors.engine",
        "EngineOptions": "actors.engine",
        "EngineRequest": "actors.requests",
        "GreedyRequest": "actors.requests",
        "MultinomialRequest": "actors.requests",
        "ObservableEngine": "actors.engine",
        "RolloutWorker": "actors.worker",
        "SampleRequest": "actors.requests",
        "SleepingEngine": "actors.engine",
        "TokenEngine": "actors.engine",
        "TopKRequest": "actors.requests",
        "build_worker": "actors.worker",
        "run_all": "actors.engine",
    },
)
