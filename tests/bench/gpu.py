"""What a GPU does of it: the learner's update, and sampling, at the size of a small real model with random weights."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from actors.engine import EngineOptions, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import SampleRequest
from actors.vllm_engine import VLLMEngine
from learner.batch import pack_contexts
from learner.packing import pack_attention
from learner.policy import next_token_logp
from tests.bench.compare import Figure, Measured, Row, compared
from tests.bench.learner import CONTEXT, GROUPS, PADDED, K, loss
from tests.tiny import make_tokenizer
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig

ROUNDS = 10
VOCABULARY, KV_HEADS, HEAD = 151_936, 8, 128
ANSWERS, NEW_TOKENS, PROMPT = 256, 256, 64
WATCHED = "model.layers.0.self_attn.q_proj.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a Qwen3."""

    name: str
    hidden: int
    layers: int
    feed_forward: int
    heads: int
    tied: bool


SMALL = Size(name="Qwen3-0.6B", hidden=1024, layers=28, feed_forward=3072, heads=16, tied=True)
WIDE = Size(name="8 of the 36 layers of Qwen3-8B", hidden=4096, layers=8, feed_forward=12_288, heads=32, tied=False)


def update(model: Path) -> Iterator[Measured]:
    """Forward and backward of candidate groups on the GPU."""
    for size in (SMALL, WIDE):
        yield from _update(size)
        gc.collect()
        torch.cuda.empty_cache()


def _update(size: Size) -> Iterator[Measured]:
    contexts, candidates = _groups()
    policy = _model(size)
    held = torch.cuda.memory_allocated() / 2**20 * 2  # weights, and gradients as large

    def theirs() -> None:
        for context, row in zip(contexts[:1], candidates[:1], strict=True):
            # Right-padded, as the public code does: a causal model needs no mask for that.
            ids = torch.zeros(K, PADDED, dtype=torch.long, device="cuda")
            ids[:, :CONTEXT] = torch.tensor(context)
            ids[:, CONTEXT] = row
            logp = policy(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
            loss(logp[:, CONTEXT - 1].gather(1, row[:, None]).view(1, K)).backward()

    def ours(groups: int = GROUPS) -> None:
        packed = pack_contexts(contexts[:groups]).to(torch.device("cuda"))
        loss(next_token_logp(policy, packed).gather(1, candidates[:groups])).backward()

    their_s, their_mib, their_gradient = _measured(policy, theirs, theirs)
    assert pack_attention(policy)
    our_s, our_mib, our_gradient = _measured(policy, ours, lambda: ours(1))
    yield Row(
        what=f"forward and backward pass of one confusion point on a GPU, K={K}, context {CONTEXT}, {size.name}",
        ours=f"one forward pass per confusion point, {GROUPS} packed in a row, head on one position",
        alternative=f"{K} rows padded to {PADDED}, full logits (the public code's shape)",
        ours_s=tuple(one / GROUPS for one in our_s),
        alternative_s=their_s,
    )
    yield Figure(
        what="peak memory above weights and gradients, on a GPU",
        value=(
            f"ours {our_mib - held:,.0f} MiB for {GROUPS} groups, alternative {their_mib - held:,.0f} MiB for one: "
            f"{GROUPS * (their_mib - held) / (our_mib - held):.0f}x per group"
        ),
    )
    difference = float((our_gradient - their_gradient).norm() / their_gradient.norm())
    yield Figure(what="difference of the gradients, bfloat16", value=f"{difference:.1e} of their norm")
    peak, useful = _peak_flops(), GROUPS * _useful_flops(size) / min(our_s)
    yield Figure(
        what="useful work on a GPU, forward and backward",
        value=f"{useful / 1e12:.0f} TFLOP/s; a matrix product {peak / 1e12:.0f} TFLOP/s: {useful / peak:.0%} of it",
    )


def sampling(model: Path) -> Iterator[Measured]:
    """vLLM against transformers on the GPU."""
    folder = model.parent / "small-real-model"
    make_tokenizer(folder)
    _model(SMALL).save_pretrained(folder)
    gc.collect()
    torch.cuda.empty_cache()
    config = ModelConfig(path=str(folder), dtype="bfloat16", max_context=PADDED)
    rollout = RolloutConfig(max_new_tokens=NEW_TOKENS, concurrency=ANSWERS, gpu_memory_utilization=0.5)
    random = np.random.default_rng(0)
    asked = [
        SampleRequest(
            prompt_ids=tuple(random.integers(3, VOCABULARY - 1000, PROMPT).tolist()), max_new_tokens=NEW_TOKENS,
            temperature=0.6, seed=number,
        )
        for number in range(ANSWERS)
    ]  # fmt: skip
    options = EngineOptions()
    engine, plain = VLLMEngine(config, rollout, options), TransformersEngine(config, rollout, options)
    row = compared(
        f"{ANSWERS} answers of {NEW_TOKENS} tokens on a GPU",
        ("vLLM, continuous batching", lambda: run_all(engine, asked)),
        ("transformers, batches with a KV cache", lambda: run_all(plain, asked)),
    )
    yield row.with_rate(ANSWERS * NEW_TOKENS, "tokens")


def _model(size: Size) -> nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=size.hidden, intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=KV_HEADS, head_dim=HEAD,
        max_position_embeddings=4096, tie_word_embeddings=size.tied,
    )  # fmt: skip
    with torch.device("cuda"):
        return Qwen3ForCausalLM(config).to(torch.bfloat16).eval()


def _groups() -> tuple[list[list[int]], torch.Tensor]:
    random = np.random.default_rng(0)
    contexts = [random.integers(3, VOCABULARY, CONTEXT).tolist() for _ in range(GROUPS)]
    candidates = torch.from_numpy(np.stack([random.choice(VOCABULARY, K, replace=False) for _ in range(GROUPS)]))
    return contexts, candidates.cuda()


def _measured(
    model: nn.Module, run: Callable[[], None], one: Callable[[], None]
) -> tuple[tuple[float, ...], float, torch.Tensor]:
    """Seconds of each round, peak MiB, and the gradient of one group."""
    model.zero_grad()
    one()
    gradient: Any = model.get_parameter(WATCHED).grad
    kept = gradient.float().clone()
    run()
    model.zero_grad()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(ROUNDS):
        model.zero_grad()
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20
    model.zero_grad()
    return tuple(seconds), peak, kept


def _useful_flops(size: Size) -> float:
    """Of one group, forward and backward: 6 a weight and token, attention, and the head on one position."""
    layer = size.hidden * (2 * size.heads * HEAD + 2 * KV_HEADS * HEAD + 3 * size.feed_forward)
    attention = 2 * CONTEXT * CONTEXT * size.heads * HEAD  # scores and values, half of each square
    return size.layers * (6 * layer * CONTEXT + 3 * attention) + 6 * size.hidden * VOCABULARY


def _peak_flops() -> float:
    """Of one large matrix product, the best of several."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
