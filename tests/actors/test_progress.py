"""Progress of a rollout actor: what counts, and that it can be seen in the middle of a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.coroutine import RolloutCoroutine, observed, run_coroutines
from actors.engine import EngineOptions, ObservableEngine, run_all
from actors.hf_engine import TransformersEngine
from actors.progress import rollout_progress
from actors.requests import GreedyRequest, SampleRequest, TopKRequest
from actors.worker import RolloutWorker
from tests.actors.test_worker import PROMPTS, canary_of
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig

LAYERS = 2
"""Layers of the tiny model."""


class CountingClock(WorkClock):
    """Counts what is noted."""

    count = 0

    def note(self) -> None:
        self.count += 1
        super().note()


@pytest.fixture
def model(tiny_model: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model), dtype="float32", max_context=96)


@pytest.fixture
def engine(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> TransformersEngine:
    monkeypatch.setattr("actors.hf_engine.WorkClock", CountingClock)
    return TransformersEngine(model, RolloutConfig(max_new_tokens=24, concurrency=8), EngineOptions())


def make_worker(engine: TransformersEngine, model: ModelConfig) -> tuple[RolloutWorker, CountingClock]:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=24, concurrency=8)
    worker = RolloutWorker(engine, model, rollout, DetectorConfig(), seed=3)
    worker.clock = clock = CountingClock()
    return worker, clock


def test_every_token_and_every_request_of_a_batch_counts(engine: TransformersEngine, model: ModelConfig) -> None:
    worker, clock = make_worker(engine, model)
    batch = worker.begin_batch(PROMPTS[:16])
    worker.step()
    first = rollout_progress(worker.clock, engine, batch)
    assert (first.prompts, first.prompts_done < 16) == (16, True)
    assert 0 < first.tokens == batch.tokens and clock.count == batch.tokens + 8, "8 of 16 answers have ended"
    while not batch.done:
        worker.step()
    report = worker.finish_batch(batch)
    assert batch.tokens == report.stats.tokens_generated
    confused = len(report.groups) + sum(result.outcome.value == "uninformative" for result in report.results)
    assert confused > 4 and clock.count == batch.tokens + 16 + 2 * confused
    last = rollout_progress(worker.clock, engine, batch)
    assert last.prompts_done == 16 and 0 <= last.engine_age_s <= last.work_age_s + 1e-3


def test_each_layer_of_the_model_shows_that_the_engine_advances(engine: TransformersEngine) -> None:
    clock = engine.step_clock
    assert isinstance(clock, CountingClock)
    run_all(engine, [TopKRequest(context_ids=(1, 2, 3), n=4)])
    assert clock.count == LAYERS
    run_all(engine, [TopKRequest(context_ids=(1, 2, 3 + n), n=4) for n in range(9)])
    assert clock.count == 3 * LAYERS, "9 contexts are two batches of at most 8"


@pytest.mark.slow
def test_each_step_with_a_token_shows_that_vllm_advances(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.vllm_engine import VLLMEngine

    monkeypatch.setattr("actors.vllm_engine.WorkClock", CountingClock)
    rollout = RolloutConfig(engine="vllm", max_new_tokens=24, concurrency=8, kv_cache_mib=16)
    engine = VLLMEngine(model, rollout, EngineOptions())
    try:
        assert isinstance(engine, ObservableEngine) and isinstance(engine.step_clock, CountingClock)
        request = GreedyRequest(contexts=((1, 2, 3), (4, 5)), max_new_tokens=4)
        ((first, second),) = run_all(engine, [request])
        assert engine.step_clock.count >= len(first) + len(second) > 0
    finally:
        engine.close()


def test_a_canary_is_progress_of_the_engine_but_not_of_the_work(engine: TransformersEngine, model: ModelConfig) -> None:
    worker, clock = make_worker(engine, model)
    worker._canary = canary_of(engine)
    layers = engine.step_clock.count  # type: ignore[attr-defined]
    check = worker.begin_canary_check(tolerance=0.01)
    while not check.done:
        worker.step()
    assert clock.count == 0
    assert engine.step_clock.count == layers + LAYERS  # type: ignore[attr-defined]


def test_answers_of_an_evaluation_count_and_do_not_change(engine: TransformersEngine, model: ModelConfig) -> None:
    worker, clock = make_worker(engine, model)
    completions = worker.generate(PROMPTS[:4], 2, 0.6, 10, seed=1)
    assert clock.count == sum(len(completion.token_ids) for completion in completions) > 8
    requests = [SampleRequest(prompt_ids=(5, 6), max_new_tokens=9, temperature=0.6, seed=n) for n in range(3)]
    seen: list[int] = []
    (watched,) = run_coroutines(engine, [observed(sample_all(requests), seen.append)])
    assert watched == run_all(engine, requests)
    assert sum(seen) == sum(map(len, watched)) and seen.count(0) == len(requests)


def test_an_observed_answer_still_ends_at_its_stop_condition(engine: TransformersEngine) -> None:
    lengths: list[int] = []

    def stop(new_ids: object) -> bool:
        lengths.append(1)
        return len(lengths) == 3

    request = SampleRequest(prompt_ids=(5, 6), max_new_tokens=20, temperature=0.6, seed=4, stop_condition=stop)
    ((answer,),) = run_coroutines(engine, [observed(sample_all([request]), lambda tokens: None)])
    assert len(answer) == 3


def sample_all(requests: list[SampleRequest]) -> RolloutCoroutine[list[list[int]]]:
    """Make one request after the other."""
    answers = []
    for request in requests:
        answers.append((yield request))
    return answers
