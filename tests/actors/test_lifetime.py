"""Rollouts leave nothing behind: an engine and its memory are free as soon as nobody uses them."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from actors.worker import build_worker
from tests.tiny import TEXT
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_an_engine_is_freed_without_a_collection_of_garbage(engine: str, tiny_model: Path) -> None:
    """Else the next engine of the process would share the memory, and vLLM's global state, with this one."""
    model = ModelConfig(path=str(tiny_model), dtype="float32", max_context=64)
    rollout = RolloutConfig(engine=engine, max_new_tokens=8, concurrency=8, kv_cache_mib=16, temperature=2.0)
    worker = build_worker(model, rollout, DetectorConfig(), seed=0)
    prompts = [Prompt(index=n, id=str(n), language="ko", text=TEXT[n % len(TEXT)][:12]) for n in range(8)]
    gc.collect()
    gc.disable()
    try:
        assert len(worker.run_batch(prompts).results) == len(prompts)
        engine_ref = weakref.ref(worker.engine)
        del worker
        assert engine_ref() is None, gc.get_referrers(engine_ref())
    finally:
        gc.enable()
