"""Rules and banned tokens on both engines: equal answers from equal seeds, and a batch of several languages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.engine import DecodingEngine, EngineFactory, EngineOptions, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import DecodingRule, SampleRequest
from actors.token_bytes import TokenBytes
from actors.vllm_engine import VLLMEngine
from detectors import script_characters
from tests.tiny import VOCABULARY
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.tokenizer import load_tokenizer

ROLLOUT = RolloutConfig(kv_cache_mib=64, concurrency=16, max_new_tokens=24)
LANGUAGES = ("ko", "ja", "ar", "ru")
REQUESTS = [
    SampleRequest(
        prompt_ids=tuple(np.random.default_rng(i).integers(3, VOCABULARY, size=3 + i % 9).tolist()),
        max_new_tokens=24, temperature=1.0, seed=i, rule=DecodingRule(method="mask", language=LANGUAGES[i % 4]),
    )
    for i in range(24)
]  # fmt: skip


def build(factory: EngineFactory, folder: Path) -> DecodingEngine:
    engine = factory(ModelConfig(path=str(folder), dtype="float32", max_context=64), ROLLOUT, EngineOptions())
    assert isinstance(engine, DecodingEngine)
    return engine


@pytest.fixture(scope="module", params=[TransformersEngine, pytest.param(VLLMEngine, marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[DecodingEngine]:
    engine = build(request.param, tiny_model)
    yield engine
    engine.close()


def text(folder: Path, answer: list[int]) -> str:
    return TokenBytes(load_tokenizer(ModelConfig(path=str(folder)))).text(answer)


def test_every_answer_keeps_to_its_own_languages_letters(engine: DecodingEngine, tiny_model: Path) -> None:
    plain = [replace(request, rule=None) for request in REQUESTS]
    before = engine.interventions
    answers, others = run_all(engine, REQUESTS), run_all(engine, plain)
    assert 0 < engine.interventions - before < sum(map(len, answers))
    for request, answer in zip(REQUESTS, answers, strict=True):
        assert request.rule is not None
        assert not script_characters(request.rule.language).foreign.search(text(tiny_model, answer))
    foreign = [
        script_characters(LANGUAGES[i % 4]).foreign.search(text(tiny_model, other)) for i, other in enumerate(others)
    ]
    assert sum(map(bool, foreign)) > len(others) / 2, "without the mask they do not"


def test_banned_tokens_are_not_sampled(engine: DecodingEngine) -> None:
    request = replace(REQUESTS[0], rule=None, max_new_tokens=1, temperature=0)
    banned: set[int] = set()
    for _ in range(5):
        (answer,) = run_all(engine, [replace(request, banned_ids=frozenset(banned))])
        assert not banned.intersection(answer)
        banned.update(answer)
    assert len(banned) == 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mask", "gate", "boost"])
def test_both_engines_sample_the_same_tokens(method: str, tiny_model: Path) -> None:
    requests = [
        replace(request, rule=replace(request.rule, method=method)) for request in REQUESTS if request.rule is not None
    ]
    answers = []
    for factory in (TransformersEngine, VLLMEngine):
        engine = build(factory, tiny_model)
        answers.append(run_all(engine, requests))
        engine.close()
    assert answers[0] == answers[1]
