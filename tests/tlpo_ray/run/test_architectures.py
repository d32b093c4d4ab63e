"""The paper's four architectures through the whole loop: the engine rolls out, the learner learns, weights are synced,
the model is exported and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.worker import RolloutWorker, build_worker
from learner.worker import build_learner
from tests.architectures import MAKERS, make_model
from tests.small_run import LOCAL, run_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import checked_prompts
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.run.build import LocalFleet, LocalLearner
from tlpo_ray.run.components import Parts
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import train

pytestmark = pytest.mark.slow

CANARY = (5, 17, 40, 3, 77)
N = 16


ENGINES = dict.fromkeys(MAKERS, "vllm") | {"gemma3-images": "transformers"}
"""vLLM's Gemma with images needs torchvision, which does not go with every CPU build of torch."""


def worker_of(config: RunConfig, engine: str, path: Path | None = None) -> RolloutWorker:
    model = config.model if path is None else config.model.model_copy(update={"path": str(path)})
    return build_worker(model, config.rollout.model_copy(update={"engine": engine}), config.detector, config.seed)


@pytest.mark.parametrize("name", MAKERS)
def test_a_tiny_model_goes_through_the_whole_loop(name: str, prompts: Path, tmp_path: Path) -> None:
    settings = {**LOCAL, "rollout.kv_cache_mib": 16, "learner.groups_per_update": 4, "rollout.temperature": 2}
    config = run_config(make_model(name, tmp_path / name), prompts, tmp_path / "run", **settings)
    chosen = checked_prompts(config.data, config.detector, config.seed)
    worker, before = worker_of(config, ENGINES[name]), worker_of(config, "transformers")
    learner = LocalLearner(build_learner(config.model, config.learner, seed=0), config)
    fleet = LocalFleet(worker, config)
    exchange = Exchange(chosen.prompts, chosen.skipped, groups_per_update=4, lease_size=8, capacity=64, max_staleness=0)
    fleet.publish(learner.publish(CANARY))  # the canary compares both engines, here and after each update
    with RunFolder(config) as folder:
        parts = Parts(exchange=exchange, fleet=fleet, learner=learner, canary_context=CANARY)
        summary = train(config, parts, folder, lambda progress: None)
    assert summary.updates >= 1 and summary.accounting.complete
    assert summary.canary < config.flow.canary_tolerance
    assert len(read_experiences(tmp_path / "run" / "experiences")) == summary.accounting.confused

    fleet.publish(learner.publish(CANARY))
    again = worker_of(config, "transformers", tmp_path / "run" / "model")
    (found,), (expected,) = again._engine.candidates([CANARY], N), worker._engine.candidates([CANARY], N)
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.logp, expected.logp, atol=1e-4)
    (first,) = before._engine.candidates([CANARY], N)
    assert not np.allclose(first.logp, found.logp, atol=1e-4), "the model has not changed"
