"""Packed contexts compared with each context alone, in the architectures that the presets name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from learner.batch import pack_contexts, pad_contexts
from learner.packing import pack_attention, packed_attention, takes_packed
from learner.policy import collate_fn, next_token_logp

SIZE: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WINDOW = 7


def build(name: str) -> nn.Module:
    import transformers

    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "llama": ("Llama", {}),
        "qwen3": ("Qwen3", {}),
        "ministral": ("Ministral", {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
        "mistral": ("Mistral", {"sliding_window": WINDOW}),
        "gemma3": ("Gemma3", {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    }
    kind, extra = kinds[name]
    config = getattr(transformers, f"{kind}TextConfig" if name == "gemma3" else f"{kind}Config")(**SIZE, **extra)
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, f"{kind}ForCausalLM")(config)
    return model.eval()


@pytest.mark.parametrize("name", ["llama", "qwen3", "ministral", "mistral", "gemma3"])
def test_packed_contexts_have_the_values_and_gradients_of_contexts_alone(name: str) -> None:
    model, random = build(name), np.random.default_rng(0)
    contexts = [random.integers(3, 99, length).tolist() for length in (1, 5, 19, 30, 7)]
    alone = torch.cat([next_token_logp(model, pad_contexts([context])) for context in contexts])
    weight_BV = torch.linspace(-1, 1, alone.numel()).view_as(alone)
    (alone * weight_BV).sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()

    assert pack_attention(model) and takes_packed(model) and collate_fn(model) is pack_contexts
    packed = next_token_logp(model, pack_contexts(contexts))
    torch.testing.assert_close(packed, alone, rtol=0, atol=2e-5)
    (packed * weight_BV).sum().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-3, atol=1e-3)
    # A single context works without segments too, as the canary uses it.
    torch.testing.assert_close(next_token_logp(model, pad_contexts(contexts[2:3])), alone[2:3], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["Gemma2", "GptOss"])
def test_a_model_whose_attention_does_more_is_padded(kind: str) -> None:
    import transformers

    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**SIZE))
    assert not pack_attention(model) and collate_fn(model) is pad_contexts


def test_a_model_with_its_own_attention_is_padded() -> None:
    model = nn.Linear(1, 1)
    model.config = SimpleNamespace(_attn_implementation="eager")  # type: ignore[assignment]
    assert not pack_attention(model) and collate_fn(model) is pad_contexts


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    window=st.one_of(st.none(), st.integers(1, 12)),
    heads=st.sampled_from([(2, 2), (4, 2), (4, 1)]),
)
def test_attention_equals_softmax_under_a_block_mask(
    lengths: list[int], window: int | None, heads: tuple[int, int]
) -> None:
    tokens, dimension = sum(lengths), 4
    random = torch.Generator().manual_seed(tokens)
    query, key, value = (
        torch.randn(1, count, tokens, dimension, generator=random) for count in (heads[0], heads[1], heads[1])
    )
    bounds = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    attended, _ = packed_attention(
        nn.Module(), query, key, value, None, segment_lengths=lengths, segment_bounds=bounds, scaling=0.7,
        sliding_window=window,
    )  # fmt: skip
    segment = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)[None, :]
    mask = (segment[:, None] == segment[None, :]) & (distance >= 0) & (distance < (window or tokens))
    groups = heads[0] // heads[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * 0.7
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value.repeat_interleave(groups, 1)
    torch.testing.assert_close(attended, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
