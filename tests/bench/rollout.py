"""Sampling answers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from actors.engine import SampleRequest
from actors.hf_engine import TransformersEngine
from actors.vllm_engine import VLLMEngine
from tests.bench.compare import Row, compared
from tlpo_ray.config.run import ModelConfig, RolloutConfig

ANSWERS, NEW_TOKENS = 128, 48
ROLLOUT = RolloutConfig(kv_cache_mib=64, concurrency=64, max_new_tokens=NEW_TOKENS)


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig(path=str(folder), dtype="float32", max_context=128)


@cache
def vllm(folder: Path) -> VLLMEngine:
    return VLLMEngine(model_config(folder), ROLLOUT, seed=0)


def requests() -> list[SampleRequest]:
    random = np.random.default_rng(0)
    return [
        SampleRequest(
            prompt_ids=tuple(random.integers(3, 400, 24).tolist()), max_new_tokens=NEW_TOKENS, temperature=0.6, seed=i
        )
        for i in range(ANSWERS)
    ]


def sampling(model: Path) -> Row:
    """vLLM against transformers."""
    engine, plain, asked = vllm(model), TransformersEngine(model_config(model), ROLLOUT), requests()
    return compared(
        f"{ANSWERS} answers of {NEW_TOKENS} tokens",
        ("vLLM, continuous batching", lambda: engine.sample(asked)),
        ("transformers, batches with a KV cache", lambda: plain.sample(asked)),
    )


def logprobs(model: Path) -> Row:
    """Sampling without log-probabilities against sampling with them."""
    engine, asked = vllm(model), requests()

    def alternative() -> None:
        parameters = [
            engine._parameters(NEW_TOKENS, temperature=r.temperature, seed=r.seed, logprobs=16) for r in asked
        ]
        engine._run([r.prompt_ids for r in asked], parameters, lambda number, output: False)

    return compared(
        f"{ANSWERS} answers of {NEW_TOKENS} tokens",
        ("without log-probabilities, then one probe", lambda: (engine.sample(asked), _probe(engine))),
        ("16 log-probabilities at every token", alternative),
    )


def _probe(engine: VLLMEngine) -> None:
    engine.candidates([request.prompt_ids for request in requests()[:ANSWERS]], 16)
