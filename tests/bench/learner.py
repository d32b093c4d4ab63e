"""The learner's update against the public code's shape: one row per candidate, padded, with full logits."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from learner.batch import pack_contexts
from learner.objective import tlpo_objective
from learner.packing import pack_attention
from learner.policy import next_token_logp
from tests.bench.compare import Figure, Measured, Row

K, CONTEXT, PADDED, GROUPS = 16, 512, 1024, 8
VOCABULARY, HIDDEN, LAYERS, FEED_FORWARD, HEADS = 8192, 512, 4, 1536, 8
ROUNDS = 2
"""Few: one round of the alternative takes half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    seconds: tuple[float, ...]
    """Time per group, once per round."""
    peak_mib: float
    """Peak memory above code, weights and gradients."""
    gradient: Any
    """Gradient of one weight matrix for one group."""


def update(model: Path) -> Iterator[Measured]:
    """Measure forward and backward of candidate groups: time, memory, share of peak FLOP/s, equality of gradients."""
    ours, theirs = (_in_a_process(way) for way in (_ours, _theirs))
    difference = float(np.linalg.norm(ours.gradient - theirs.gradient) / np.linalg.norm(theirs.gradient))
    yield Row(
        what=f"forward and backward pass of one confusion point, K={K}, context {CONTEXT}, {_size()}",
        ours=f"one forward pass per confusion point, {GROUPS} packed in a row, head on one position",
        alternative=f"{K} rows padded to {PADDED}, full logits (the public code's shape)",
        ours_s=ours.seconds,
        alternative_s=theirs.seconds,
    )
    yield Figure(
        what="peak memory above the model's",
        value=(
            f"ours {ours.peak_mib:,.0f} MiB for {GROUPS} groups, alternative {theirs.peak_mib:,.0f} MiB for one: "
            f"{theirs.peak_mib / ours.peak_mib:.1f}x, {GROUPS * theirs.peak_mib / ours.peak_mib:.0f}x per group"
        ),
    )
    yield Figure(what="difference of the gradients", value=f"{difference:.1e} of their norm")
    peak, useful = _peak_flops(), _useful_flops() / min(ours.seconds)
    yield Figure(
        what="useful work, forward and backward",
        value=(
            f"{useful / 1e9:.0f} GFLOP/s; a matrix product on this machine {peak / 1e9:.0f} GFLOP/s: "
            f"{useful / peak:.0%} of it"
        ),
    )


def _model() -> nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=FEED_FORWARD, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=HIDDEN // HEADS, max_position_embeddings=PADDED,
        tie_word_embeddings=False,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def _size() -> str:
    return f"{sum(parameter.numel() for parameter in _model().parameters()) / 1e6:.0f} M parameters"


def _groups() -> tuple[list[list[int]], torch.Tensor]:
    random = np.random.default_rng(0)
    contexts = [random.integers(3, VOCABULARY, CONTEXT).tolist() for _ in range(GROUPS)]
    candidates = torch.from_numpy(np.stack([random.choice(VOCABULARY, K, replace=False) for _ in range(GROUPS)]))
    return contexts, candidates


def loss(logp_BK: torch.Tensor) -> torch.Tensor:
    advantages = torch.linspace(-1, 1, K, device=logp_BK.device).expand_as(logp_BK)
    return -tlpo_objective(logp_BK, logp_BK.detach(), None, advantages, 0.2, 0.2, 0.0).per_group_B.mean()


def _ours(model: nn.Module) -> tuple[int, Callable[[int], None]]:
    assert pack_attention(model)
    contexts, candidates = _groups()

    def run(groups: int) -> None:
        loss(next_token_logp(model, pack_contexts(contexts[:groups])).gather(1, candidates[:groups])).backward()

    return GROUPS, run


def _theirs(model: nn.Module) -> tuple[int, Callable[[int], None]]:
    contexts, candidates = _groups()

    def run(groups: int) -> None:
        for context, row in zip(contexts[:groups], candidates[:groups], strict=True):
            # Right-padded as in the public code: a causal model needs no mask for that.
            ids = torch.zeros(K, PADDED, dtype=torch.long)
            ids[:, :CONTEXT] = torch.tensor(context)
            ids[:, CONTEXT] = row
            logp = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
            loss(logp[:, CONTEXT - 1].gather(1, row[:, None]).view(1, K)).backward()

    return 1, run


def _in_a_process(way: Any) -> _Process:
    """Measure in a process of its own, so that peak memory is that of one variant."""
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=_measure, args=(way, sender))
    process.start()
    result: _Process = receiver.recv()
    process.join()
    return result


def _measure(way: Any, sender: Any) -> None:
    torch.set_num_threads(1)
    model = _model()
    groups, run = way(model)
    run(1)
    gradient = model.get_parameter("model.layers.0.self_attn.q_proj.weight").grad
    assert gradient is not None
    kept = gradient.numpy().copy()
    seconds = []
    for _ in range(ROUNDS):
        model.zero_grad()
        began = time.perf_counter()
        run(groups)
        seconds.append((time.perf_counter() - began) / groups)
    sender.send(_Process(seconds=tuple(seconds), peak_mib=_peak_mib() - _static_mib(model), gradient=kept))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _static_mib(model: nn.Module) -> float:
    """Return the memory of code, weights and gradients, which every variant needs."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 2**20
    return _BARE_MIB + 2 * weights


_BARE_MIB = _peak_mib()
"""Memory of a process that has loaded the libraries."""


def _useful_flops() -> float:
    """Return the FLOPs of one group, forward and backward: 6 per weight and token, attention, head on one position."""
    layer = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * FEED_FORWARD
    attention = 2 * CONTEXT * CONTEXT * HIDDEN  # scores and values, half of each square
    return LAYERS * (6 * layer * CONTEXT + 3 * attention) + 6 * HIDDEN * VOCABULARY


def _peak_flops() -> float:
    """Return the FLOP/s of one thread that multiplies matrices, the best of several measurements."""
    torch.set_num_threads(1)
    size = 1536
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
