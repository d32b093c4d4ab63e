"""Sampling of answers, and complete rollouts: answers, candidate sets, lookaheads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

import detectors
from actors.chat import prompt_ids
from actors.confusion import confusion_point
from actors.engine import EngineOptions, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import CandidateSet, SampleRequest, TopKRequest
from actors.token_bytes import TokenBytes
from actors.vllm_engine import VLLMEngine
from actors.vllm_requests import sampling_params
from actors.worker import RolloutWorker
from tests.bench.compare import Figure, Measured, Row, compared
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt, RolloutReport
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import toy_world

ANSWERS, NEW_TOKENS = 128, 48
SAMPLES = 8
ROLLOUT = RolloutConfig(kv_cache_mib=64, concurrency=64, max_new_tokens=NEW_TOKENS)


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig(path=str(folder), dtype="float32", max_context=128)


@cache
def vllm(folder: Path) -> VLLMEngine:
    return VLLMEngine(model_config(folder), ROLLOUT, EngineOptions())


def sample_requests() -> list[SampleRequest]:
    random = np.random.default_rng(0)
    return [
        SampleRequest(
            prompt_ids=tuple(random.integers(3, 400, 24).tolist()), max_new_tokens=NEW_TOKENS, temperature=0.6, seed=i
        )
        for i in range(ANSWERS)
    ]


def sampling(model: Path) -> Iterator[Row]:
    """vLLM against transformers."""
    engine, plain = vllm(model), TransformersEngine(model_config(model), ROLLOUT, EngineOptions())
    requests = sample_requests()
    yield compared(
        f"{ANSWERS} answers of {NEW_TOKENS} tokens",
        ("vLLM, continuous batching", lambda: run_all(engine, requests)),
        ("transformers, batches with a KV cache", lambda: run_all(plain, requests)),
    )


def logprobs(model: Path) -> Iterator[Row]:
    """Sampling without log-probabilities against sampling with them."""
    engine, requests = vllm(model), sample_requests()
    vllm_engine = engine._engine

    def alternative() -> None:
        for number, r in enumerate(requests):
            parameters = sampling_params(NEW_TOKENS, r.temperature, r.seed, logprobs=16)
            vllm_engine.add_request(f"with-{number}", {"prompt_token_ids": list(r.prompt_ids)}, parameters)
        while vllm_engine.has_unfinished_requests():
            vllm_engine.step()

    def ours() -> list[CandidateSet]:
        run_all(engine, requests)
        return run_all(engine, [TopKRequest(context_ids=request.prompt_ids, n=16) for request in requests])

    yield compared(
        f"{ANSWERS} answers of {NEW_TOKENS} tokens",
        ("without log-probabilities, then one probe", ours),
        ("16 log-probabilities at every token", alternative),
    )


def complete(model: Path) -> Iterator[Measured]:
    """Answers, candidate sets and lookaheads on the toy model."""
    toy = cached_toy_model(0, lambda share, loss: None)
    questions = toy_world().questions[::4] * SAMPLES
    prompts = [Prompt(index=i, id=q.id, language=q.language, text=q.text) for i, q in enumerate(questions)]
    rollout = RolloutConfig(kv_cache_mib=64, concurrency=64, max_new_tokens=NEW_TOKENS)
    worker = RolloutWorker(
        VLLMEngine(model_config(toy), rollout, EngineOptions()), model_config(toy), rollout, DetectorConfig(), 0
    )
    reports: list[RolloutReport] = []
    public = PublicShape(toy)
    yield compared(
        f"{len(prompts)} answers of the toy model with their candidate sets and lookaheads",
        ("rollout worker on vLLM", lambda: reports.append(worker.run_batch(prompts))),
        (
            "transformers generate: batches of 8 samples, then 16 rows per confusion point",
            lambda: public.run_batch(prompts),
        ),
    )
    report = reports[-1]
    yield Figure(what="tokens sampled after the confusion point", value=f"{report.stats.tokens_discarded}")
    yield Figure(
        what="tokens sampled per group learned",
        value=f"{report.stats.tokens_generated / max(1, len(report.groups)):.0f} ({len(report.groups)} groups)",
    )


class PublicShape:
    """The method of the public code, on transformers: complete answers, then a batch of continuations per point."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self._config = model_config(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = load_tokenizer(self._config)
        self._table = TokenBytes(self._tokenizer)
        self._special = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)

    @torch.no_grad()
    def run_batch(self, prompts: list[Prompt]) -> None:
        """Roll out prompts, which must be `SAMPLES` copies of one list."""
        different = len(prompts) // SAMPLES
        for prompt in prompts[:different]:
            ids = prompt_ids(self._tokenizer, self._config, prompt.text)
            sequences = self._model.generate(
                torch.tensor([ids] * SAMPLES), attention_mask=torch.ones(SAMPLES, len(ids)), do_sample=True,
                temperature=0.6, top_k=0, max_new_tokens=NEW_TOKENS,
            )  # fmt: skip
            detector = detectors.language(prompt.language)
            for row in sequences[:, len(ids) :].tolist():
                answer = [
                    token for token in row if token not in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
                ]
                point = confusion_point(answer, self._table, detector)
                if point is not None:
                    self._look_ahead([*ids, *answer[: point.token]], detector)

    def _look_ahead(self, context: list[int], detector: detectors.LanguageDetector) -> None:
        logp = self._model(torch.tensor([context])).logits[0, -1].log_softmax(-1)
        rows = torch.tensor([[*context, token] for token in logp.topk(16).indices.tolist()])
        tails = self._model.generate(rows, attention_mask=torch.ones(rows.shape), do_sample=False, max_new_tokens=3)
        for row in tails[:, len(context) :].tolist():
            detectors.find(self._table.text(row), detector)
