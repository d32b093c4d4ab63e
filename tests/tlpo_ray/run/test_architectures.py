"""The paper's four architectures through the whole loop: the engine rolls out, the learner learns, weights are synced,
the model is exported and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.engine import run_all
from actors.requests import TopKRequest
from actors.worker import RolloutWorker, build_worker
from learner.worker import build_learner
from tests.architectures import MAKERS, make_model
from tests.small_run import LOCAL, run_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.run.components import Components
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.local import LocalFleet, LocalLearner
from tlpo_ray.run.loop import train

pytestmark = pytest.mark.slow

CANARY = (5, 17, 40, 3, 77)
N = 16


ENGINES = dict.fromkeys(MAKERS, "vllm") | {"gemma3-images": "transformers"}
"""vLLM's Gemma with images needs torchvision, which not every CPU build of torch supports."""


def worker_of(config: RunConfig, engine: str, path: Path | None = None) -> RolloutWorker:
    model = config.model if path is None else config.model.model_copy(update={"path": str(path)})
    return build_worker(model, config.rollout.model_copy(update={"engine": engine}), config.detector, config.seed)


@pytest.mark.parametrize("name", MAKERS)
def test_a_tiny_model_goes_through_the_complete_loop(name: str, prompts: Path, tmp_path: Path) -> None:
    settings = {**LOCAL, "rollout.kv_cache_mib": 16, "learner.groups_per_update": 4, "rollout.temperature": 2}
    config = run_config(make_model(name, tmp_path / name), prompts, tmp_path / "run", **settings)
    chosen = load_prompts(config.data, config.detector, config.seed)
    worker, before = worker_of(config, ENGINES[name]), worker_of(config, "transformers")
    learner = LocalLearner(build_learner(config.model, config.learner, seed=0), config)
    exchange = Exchange(chosen.prompts, chosen.skipped, groups_per_update=4, lease_size=8, capacity=64, max_staleness=0)
    fleet = LocalFleet(worker, exchange, config)
    fleet.sync_weights(learner.export_weights(CANARY))  # the canary compares both engines, here and after each update
    with RunFolder(config) as folder:
        components = Components(exchange=exchange, fleet=fleet, learner=learner, canary_context=CANARY)
        summary = train(config, components, folder)
    assert summary.updates >= 1 and summary.accounting.complete
    assert summary.incidents.canary < config.flow.canary_tolerance
    assert len(read_experiences(tmp_path / "run" / "experiences")) == summary.accounting.confused

    fleet.sync_weights(learner.export_weights(CANARY))
    again = worker_of(config, "transformers", tmp_path / "run" / "model")
    request = TopKRequest(context_ids=CANARY, n=N)
    (exported,), (synced,), (initial,) = (run_all(one.engine, [request]) for one in (again, worker, before))
    np.testing.assert_array_equal(exported.token_ids, synced.token_ids)
    np.testing.assert_allclose(exported.logp, synced.logp, atol=1e-4)
    assert not np.allclose(initial.logp, exported.logp, atol=1e-4), "the model has not changed"
