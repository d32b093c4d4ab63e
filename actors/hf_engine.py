"""The engine on plain transformers: small, for `local` runs, and the oracle that vLLM is tested against.

With equal float32 weights and equal seeds it samples the same tokens as `VLLMEngine`: both draw
argmax_t p(t) / q_t with q exponential float64 noise from a generator of the request's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from actors.engine import CandidateSet, SampleRequest, Watch
from actors.tasks import Rounds, T, Task
from tlpo_ray.config.run import LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.flow.lora import load_parameters, with_adapter
from tlpo_ray.flow.models import eos_set, load_causal_lm
from tlpo_ray.flow.weights import Bucket

Choose = Callable[[int, Tensor], int]
"""Of (request, logits [V]): the next token."""


@dataclass(slots=True)
class _Running:
    request: int
    limit: int
    token_ids: list[int] = field(default_factory=list)


class TransformersEngine:
    """`TokenEngine` on a Hugging Face causal language model, in batches with a KV cache."""

    kv_use = 0.0

    def __init__(self, model: ModelConfig, rollout: RolloutConfig, lora: LoraConfig | None = None) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_causal_lm(model, getattr(torch, model.dtype))
        adapted: Any = loaded if lora is None else with_adapter(loaded, lora)
        self._model = adapted.to(self._device).eval()
        self._batch = rollout.concurrency
        self.max_context = model.max_context
        self.eos_ids = eos_set(self._model.generation_config.eos_token_id)
        self.version = 0
        self._rounds = Rounds(self)

    def sample(self, requests: Sequence[SampleRequest], watch: Watch | None = None) -> list[list[int]]:
        generators = [None if r.seed is None else torch.Generator(self._device).manual_seed(r.seed) for r in requests]

        def choose(number: int, logits: Tensor) -> int:
            return _draw(logits, requests[number].temperature, generators[number])

        limits = [request.max_new_tokens for request in requests]
        return self._generate([request.prompt_ids for request in requests], limits, choose, watch)

    def candidates(self, contexts: Sequence[Sequence[int]], n: int) -> list[CandidateSet]:
        tops = [logits.float().log_softmax(-1).topk(n) for logits in self._next_logits(contexts)]
        return [_candidate_set(top.indices, top.values) for top in tops]

    def draw(self, contexts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[CandidateSet]:
        drawn: list[CandidateSet] = []
        for logits, seed in zip(self._next_logits(contexts), seeds, strict=True):
            logp = logits.float().log_softmax(-1)
            generator = torch.Generator(self._device).manual_seed(seed)
            ids = torch.multinomial(logp.exp(), n, generator=generator)
            ids = ids[logp[ids].argsort(descending=True)]
            drawn.append(_candidate_set(ids, logp[ids]))
        return drawn

    def extend(self, contexts: Sequence[Sequence[int]], k: int) -> list[list[int]]:
        limits = [min(k, self.max_context - len(context)) for context in contexts]
        return self._generate(contexts, limits, lambda number, logits: int(logits.argmax()), None)

    def start(self, task: Task[T], ended: Callable[[T], None]) -> None:
        self._rounds.start(task, ended)

    def turn(self) -> bool:
        return self._rounds.turn()

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        for bucket in buckets:
            load_parameters(self._model, bucket)
        self.version = version

    def close(self) -> None:
        del self._model

    def _next_logits(self, contexts: Sequence[Sequence[int]]) -> list[Tensor]:
        rows: list[Tensor] = []
        for start in range(0, len(contexts), self._batch):
            logits, _, _ = self._prefill(contexts[start : start + self._batch])
            rows += list(logits)
        return rows

    def _generate(
        self, contexts: Sequence[Sequence[int]], limits: Sequence[int], choose: Choose, watch: Watch | None
    ) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in contexts]
        # Contexts of like length share a batch: left padding is wasted work.
        order = sorted((i for i in range(len(contexts)) if limits[i] > 0), key=lambda i: len(contexts[i]))
        for start in range(0, len(order), self._batch):
            running = [_Running(i, limits[i], answers[i]) for i in order[start : start + self._batch]]
            self._run([contexts[one.request] for one in running], running, choose, watch)
        return answers

    @torch.inference_mode()
    def _run(
        self, contexts: Sequence[Sequence[int]], running: list[_Running], choose: Choose, watch: Watch | None
    ) -> None:
        logits, cache, mask = self._prefill(contexts)
        while True:
            tokens = [choose(one.request, row) for one, row in zip(running, logits, strict=True)]
            goes_on = [self._push(one, token, watch) for one, token in zip(running, tokens, strict=True)]
            if not any(goes_on):
                return
            keep = torch.tensor([i for i, on in enumerate(goes_on) if on], device=self._device)
            running = [one for one, on in zip(running, goes_on, strict=True) if on]
            if len(running) < len(goes_on):
                cache.batch_select_indices(keep)
            mask = torch.cat([mask[keep], mask.new_ones(len(running), 1)], dim=1)
            step = torch.tensor([tokens[i] for i in keep.tolist()], device=self._device)[:, None]
            logits = self._forward(step, mask, cache)

    def _push(self, one: _Running, token: int, watch: Watch | None) -> bool:
        """Append a token; whether the answer goes on."""
        if token in self.eos_ids:
            return False
        one.token_ids.append(token)
        stopped = watch is not None and watch(one.request, [token])
        return not stopped and len(one.token_ids) < one.limit

    @torch.inference_mode()
    def _prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[Tensor, Any, Tensor]:
        from transformers import DynamicCache

        longest = max(map(len, contexts))
        ids = torch.tensor([[0] * (longest - len(c)) + list(c) for c in contexts], device=self._device)
        mask = torch.tensor([[0] * (longest - len(c)) + [1] * len(c) for c in contexts], device=self._device)
        cache = DynamicCache(config=self._model.config)
        return self._forward(ids, mask, cache), cache, mask

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def _draw(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.float() / temperature).softmax(-1)
    noise = torch.empty_like(probabilities, dtype=torch.float64).exponential_(generator=generator)
    return int((noise.reciprocal_() * probabilities).argmax())


def _candidate_set(ids: Tensor, logp: Tensor) -> CandidateSet:
    return CandidateSet(token_ids=ids.int().cpu().numpy(), logp=logp.float().cpu().numpy())
