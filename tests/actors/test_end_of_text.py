"""Both engines, and the learner's report, take the same tokens for the end of an answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from actors.engine import EngineOptions, TokenEngine, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import GreedyRequest, SampleRequest
from learner.worker import build_learner
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig, RolloutConfig
from tlpo_ray.flow.tokenizer import end_of_text_ids

MISSING = "missing"
TURN_END, TEXT_END = "<|im_end|>", "<|endoftext|>"  # 2 and 0 in the tiny vocabulary
CASES: dict[str, tuple[Any, Any, str, set[int]]] = {
    "llama-3.1: three ends, of which the tokenizer names one": ([300, 301, 2], [300, 301, 2], TURN_END, {300, 301, 2}),
    "gemma 3: two ends, of which the tokenizer names neither": ([310, 311], 310, TEXT_END, {310, 311, 0}),
    "qwen 3: the end of a turn and of the text": ([2, 0], 2, TURN_END, {0, 2}),
    "without a generation configuration": (MISSING, [320, 321], TURN_END, {320, 321, 2}),
    "a generation configuration without an end": (None, 330, TURN_END, {2}),
    "an end beyond the weights": ([2, 4000], 2, TURN_END, {2}),
}
"""What the model's three files say: generation configuration, configuration, tokenizer; and what ends an answer."""
ROLLOUT = RolloutConfig(kv_cache_mib=64, concurrency=16, max_new_tokens=24)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), encoding="utf-8")


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> tuple[ModelConfig, set[int]]:
    generation, configured, named, expected = CASES[request.param]
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    change(folder / "config.json", eos_token_id=configured)
    change(folder / "tokenizer_config.json", eos_token=named)
    if generation == MISSING:
        (folder / "generation_config.json").unlink()
    else:
        change(folder / "generation_config.json", eos_token_id=generation)
    return ModelConfig(path=str(folder), dtype="float32", max_context=64), expected


def test_what_the_files_of_a_model_name_ends_an_answer(case: tuple[ModelConfig, set[int]]) -> None:
    model, expected = case
    assert end_of_text_ids(model) == expected
    learner = build_learner(model, LearnerConfig(engine="torch", beta=0), seed=0)
    assert set(learner._eos_ids.tolist()) == expected
    assert TransformersEngine(model, ROLLOUT, EngineOptions()).eos_ids == expected


def sampled(engine: TokenEngine) -> list[list[int]]:
    requests = [SampleRequest(prompt_ids=(5, 6, 7 + n), max_new_tokens=24, temperature=2.0, seed=n) for n in range(120)]
    (tails,) = run_all(engine, [GreedyRequest(contexts=[(5, 6, 7 + n) for n in range(60)], max_new_tokens=8)])
    return [*run_all(engine, requests), *tails]


@pytest.mark.slow
def test_vllm_ends_answers_where_transformers_does(tiny_model: Path, tmp_path: Path) -> None:
    """With so many ends that nearly every answer comes to one of each file's."""
    from actors.vllm_engine import VLLMEngine

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    ends = list(range(280, 400, 3))
    change(folder / "config.json", eos_token_id=2)
    change(folder / "generation_config.json", eos_token_id=ends)
    model = ModelConfig(path=str(folder), dtype="float32", max_context=64)
    vllm, oracle = VLLMEngine(model, ROLLOUT, EngineOptions()), TransformersEngine(model, ROLLOUT, EngineOptions())
    try:
        assert vllm.eos_ids == oracle.eos_ids == {2, *ends}
        answers = sampled(vllm)
        assert answers == sampled(oracle)
    finally:
        vllm.close()
    assert not any(set(answer) & vllm.eos_ids for answer in answers)
    assert sum(len(answer) < 24 for answer in answers[:120]) > 100, "the ends end answers"
