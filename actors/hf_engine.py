"""The engine on plain transformers: small, for `local` runs, and the oracle that vLLM is tested against.

With equal float32 weights and equal seeds it samples the same tokens as `VLLMEngine`: both draw argmax_t p(t) / q_t
with exponential float64 noise q from a generator of the request's own.

Shape suffix: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from actors.batch_scheduler import BatchScheduler
from actors.decoding.rules import RuleSet
from actors.engine import EngineOptions
from actors.requests import (
    CandidateSet,
    DecodingRule,
    EngineRequest,
    GreedyRequest,
    MultinomialRequest,
    SampleRequest,
    StopCondition,
    TopKRequest,
)
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.file_layout import file_layout
from tlpo_ray.flow.lora import with_adapter
from tlpo_ray.flow.models import load_causal_lm
from tlpo_ray.flow.tokenizer import end_of_text_ids, load_tokenizer
from tlpo_ray.flow.weights import Bucket

R = TypeVar("R")
Choose = Callable[[Tensor], int]
"""Function from the logits [V] at the end of a sequence to its next token."""


@dataclass(slots=True, kw_only=True)
class _Sequence:
    """A sequence while it is generated."""

    context_ids: Sequence[int]
    limit: int
    """Maximum number of tokens to generate."""
    choose: Choose
    rule: DecodingRule | None = None
    banned_ids: Sequence[int] = ()
    stop_condition: StopCondition | None = None
    token_ids: list[int] = field(default_factory=list)
    """Tokens generated so far."""


class TransformersEngine:
    """`ObservableEngine` and `DecodingEngine` on a Hugging Face causal language model, in batches with a KV cache.

    Raises:
        ModelError: The model cannot be loaded.
    """

    display_name: ClassVar[str] = "transformers"
    supports_broadcast: ClassVar[bool] = False
    needs_own_process: ClassVar[bool] = False
    kv_cache_usage = 0.0
    """Always 0: a batch's cache is as large as the batch needs."""

    def __init__(self, model: ModelConfig, rollout: RolloutConfig, options: EngineOptions) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_causal_lm(model, getattr(torch, model.dtype))
        self._layout = file_layout(loaded, model, adapter=options.lora is not None)
        adapted: Any = loaded if options.lora is None else with_adapter(loaded, options.lora)
        self._model = adapted.to(self._device).eval()
        self._batch_size = rollout.concurrency
        self.max_context = model.max_context
        self.eos_ids = end_of_text_ids(model)
        self.version = 0
        self._settings = model
        self._rules: RuleSet | None = None
        """Decoding rules; built when the first request asks for one."""
        self._interventions = 0
        self._scheduler = BatchScheduler(max_sequences=self._batch_size)
        self.step_clock = WorkClock()
        _note_layers(self._model, self.step_clock)

    def submit(self, request: EngineRequest[R], on_done: Callable[[R], None]) -> None:
        self._scheduler.submit(request, on_done)

    def step(self) -> bool:
        return self._scheduler.step(self._serve)

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        self._layout.load(self._model, buckets)
        self.version = version

    @property
    def interventions(self) -> int:
        return self._interventions

    def close(self) -> None:
        del self._model

    def _serve(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Return the results of requests of one kind."""
        match requests[0]:
            case SampleRequest():
                return self._sample(requests)
            case TopKRequest():
                return self._top_k(requests)
            case MultinomialRequest():
                return self._multinomial(requests)
            case _:
                return self._greedy(requests)

    def _sample(self, requests: Sequence[SampleRequest]) -> list[list[int]]:
        return self._generate(
            [
                _Sequence(
                    context_ids=request.prompt_ids,
                    limit=request.max_new_tokens,
                    choose=_sampler(request, self._device),
                    stop_condition=request.stop_condition,
                    rule=request.rule,
                    banned_ids=sorted(request.banned_ids),
                )
                for request in requests
            ]
        )

    def _top_k(self, requests: Sequence[TopKRequest]) -> list[CandidateSet]:
        rows = self._next_logits([request.context_ids for request in requests])
        return [_most_probable(row, request) for request, row in zip(requests, rows, strict=True)]

    def _multinomial(self, requests: Sequence[MultinomialRequest]) -> list[CandidateSet]:
        drawn: list[CandidateSet] = []
        rows = self._next_logits([request.context_ids for request in requests])
        for request, row in zip(requests, rows, strict=True):
            logp = row.float().log_softmax(-1)
            generator = torch.Generator(self._device).manual_seed(request.seed)
            ids = torch.multinomial(logp.exp(), request.n, generator=generator)
            ids = ids[logp[ids].argsort(descending=True)]
            drawn.append(_candidate_set(ids, logp[ids]))
        return drawn

    def _greedy(self, requests: Sequence[GreedyRequest]) -> list[list[list[int]]]:
        sequences = [
            _Sequence(
                context_ids=context,
                limit=min(request.max_new_tokens, self.max_context - len(context)),
                choose=lambda logits: int(logits.argmax()),
                stop_condition=stop_condition,
            )
            for request in requests
            for context, stop_condition in zip_longest(request.contexts, request.stop_conditions)
        ]
        continuations = iter(self._generate(sequences))
        return [[next(continuations) for _ in request.contexts] for request in requests]

    def _next_logits(self, contexts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the logits [V] after each context."""
        rows: list[Tensor] = []
        for start in range(0, len(contexts), self._batch_size):
            logits, _, _ = self._prefill(contexts[start : start + self._batch_size])
            rows += list(logits)
        return rows

    def _generate(self, sequences: Sequence[_Sequence]) -> list[list[int]]:
        """Generate all sequences to their ends and return their new tokens."""
        # Contexts of similar length share a batch: left padding is wasted work.
        order = sorted((sequence for sequence in sequences if sequence.limit > 0), key=lambda s: len(s.context_ids))
        for start in range(0, len(order), self._batch_size):
            self._generate_batch(order[start : start + self._batch_size])
        return [sequence.token_ids for sequence in sequences]

    @torch.inference_mode()
    def _generate_batch(self, running: Sequence[_Sequence]) -> None:
        logits, cache, mask = self._prefill([sequence.context_ids for sequence in running])
        while True:
            logits = self._steered(running, logits)
            tokens = [sequence.choose(row) for sequence, row in zip(running, logits, strict=True)]
            continues = [self._append(sequence, token) for sequence, token in zip(running, tokens, strict=True)]
            if not any(continues):
                return
            keep = torch.tensor([row for row, alive in enumerate(continues) if alive], device=self._device)
            running = [sequence for sequence, alive in zip(running, continues, strict=True) if alive]
            if len(running) < len(continues):
                cache.reorder_cache(keep)  # of the methods that select rows, the one that every kind of layer has
            mask = torch.cat([mask[keep], mask.new_ones(len(running), 1)], dim=1)
            last = torch.tensor([tokens[row] for row in keep.tolist()], device=self._device)[:, None]
            logits = self._forward(last, mask, cache)

    def _steered(self, running: Sequence[_Sequence], logits: Tensor) -> Tensor:
        """Return logits [B, V] with the rules of the sequences applied."""
        if not any(sequence.rule or sequence.banned_ids for sequence in running):
            return logits
        logits = logits.float()
        for row, sequence in enumerate(running):
            logits[row, list(sequence.banned_ids)] = float("-inf")
        rules = [sequence.rule for sequence in running]
        if any(rules):
            self._rules = self._rules or RuleSet(load_tokenizer(self._settings), logits.shape[1])
            changed = self._rules.apply(logits, rules, [sequence.token_ids for sequence in running])
            self._interventions += int(changed.sum())
        return logits

    def _append(self, sequence: _Sequence, token: int) -> bool:
        """Append a token; return whether the sequence continues."""
        if token in self.eos_ids:
            return False
        sequence.token_ids.append(token)
        stopped = sequence.stop_condition is not None and sequence.stop_condition([token])
        return not stopped and len(sequence.token_ids) < sequence.limit

    @torch.inference_mode()
    def _prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[Tensor, Any, Tensor]:
        """Return logits after each context, the KV cache, and the attention mask of the left-padded batch."""
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


def _note_layers(model: nn.Module, clock: WorkClock) -> None:
    """Note on a clock each time a layer of the model has run: a forward pass over many long contexts takes long."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                layer.register_forward_hook(lambda *_: clock.note())


def _sampler(request: SampleRequest, device: torch.device) -> Choose:
    """Return the function that draws a request's tokens from its own generator."""
    generator = None if request.seed is None else torch.Generator(device).manual_seed(request.seed)
    return lambda logits: _sample_token(logits, request.temperature, generator)


def _sample_token(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.float() / temperature).softmax(-1)
    # argmax p / q with exponential noise q is a draw from p. In float64, so that vLLM draws the same token.
    noise = torch.empty_like(probabilities, dtype=torch.float64).exponential_(generator=generator)
    return int((noise.reciprocal_() * probabilities).argmax())


def _most_probable(logits: Tensor, request: TopKRequest) -> CandidateSet:
    """Return the candidate set of a request, given the logits [V] after its context."""
    logp = logits.float().log_softmax(-1)
    ids = logp.topk(request.n).indices
    if request.include is not None and request.include not in ids:
        ids[-1] = request.include
    return _candidate_set(ids, logp[ids])


def _candidate_set(ids: Tensor, logp: Tensor) -> CandidateSet:
    return CandidateSet(token_ids=ids.int().cpu().numpy(), logp=logp.float().cpu().numpy())
