"""What decoding rules cost: batches of 64 answers with a mask, a gate or a boost, beside the same without."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from actors.engine import EngineOptions, run_all
from actors.requests import DecodingRule, SampleRequest
from actors.token_bytes import TokenBytes
from actors.vllm_engine import VLLMEngine
from detectors import script_characters
from tests.bench.compare import Figure, Measured, compared
from tlpo_ray.config.decoding import RULES, RuleMethod
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.quickstart.cache import cache_root

BATCH, NEW_TOKENS = 64, 32


def rules(model: Path) -> Iterator[Measured]:
    """Decoding rules against plain sampling."""
    yield from _rules_of("tiny model, 400 tokens", model)
    gemma = cache_root() / "gemma-3-270m"
    if gemma.exists():
        yield from _rules_of("Gemma 3 270M, 262,144 tokens", gemma)


def _rules_of(name: str, folder: Path) -> Iterator[Measured]:
    config = ModelConfig(path=str(folder), dtype="float32", max_context=128)
    # Sampling by a seed per request goes row by row, and would hide the rule behind its own time.
    rollout = RolloutConfig(kv_cache_mib=256, concurrency=BATCH, max_new_tokens=NEW_TOKENS, reproducible=False)
    engine = VLLMEngine(config, rollout, EngineOptions())
    for method in RULES:
        yield compared(
            f"{BATCH} answers at once of {name}",
            (method, partial(run_all, engine, _requests(method))),
            ("plain sampling", partial(run_all, engine, _requests())),
        )
    token_bytes, foreign = TokenBytes(load_tokenizer(config)), script_characters("ko").foreign
    answers = run_all(engine, _requests("mask"))
    found = sum(foreign.search(token_bytes.text(answer)) is not None for answer in answers)
    yield Figure(what=f"masked answers of {name} with a foreign letter", value=f"{found} of {BATCH}")
    engine.close()


def _requests(method: RuleMethod | None = None) -> list[SampleRequest]:
    random = np.random.default_rng(0)
    rule = None if method is None else DecodingRule(method=method, language="ko")
    prompts = random.integers(3, 400, (BATCH, 16)).tolist()
    return [
        SampleRequest(prompt_ids=tuple(ids), max_new_tokens=NEW_TOKENS, temperature=1.0, seed=None, rule=rule)
        for ids in prompts
    ]
