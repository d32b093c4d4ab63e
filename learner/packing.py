"""Attention over packed contexts: several in one row, each attending to itself alone, and no padding.

It replaces a model's attention through transformers' attention interface, so every model that takes its attention from
there can be packed. Shape suffixes: T tokens of all contexts, H query heads, G key and value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlpo_ray.flow.models import attends_only, used_by_text

PACKED = "tlpo_packed"
"""Name of the attention in transformers' registry."""
HALF_DTYPES = (torch.bfloat16, torch.float16)


def pack_attention(model: nn.Module) -> bool:
    """Let a model take packed contexts, if that is possible.

    Impossible are models that do not let their attention be replaced; those that cap attention scores (Gemma 2), add
    sinks to them (gpt-oss) or attend in chunks (Llama 4), which `packed_attention` does not do; and those that pass
    anything from token to token by other means (Qwen3.5, LFM2), from one context to the next.

    Returns:
        True if the model now takes packed contexts; False if it is unchanged.
    """
    from transformers import AttentionInterface

    is_replaceable: bool = getattr(model, "_supports_attention_backend", False)
    caps_scores = getattr(model.config, "attn_logit_softcapping", None) is not None
    has_sinks = any(name.endswith(".sinks") for name, _ in model.named_parameters())
    can_pack = is_replaceable and not caps_scores and not has_sinks and not _leaks(model)
    if can_pack:
        AttentionInterface.register(PACKED, packed_attention)
        model.set_attn_implementation(PACKED)  # type: ignore[operator]
    return can_pack


def _leaks(model: nn.Module) -> bool:
    """Return whether a packed context of a model would see the one before it, or its attention is in chunks."""
    config: Any = model.config
    text = config.get_text_config()
    in_chunks = "chunked_attention" in (getattr(text, "layer_types", None) or ())
    # Not all such models name the kinds of their layers, but all have a convolution.
    convolves = any(isinstance(module, nn.Conv1d) and used_by_text(name) for name, module in model.named_modules())
    return in_chunks or convolves or not attends_only(text)


def takes_packed(model: nn.Module) -> bool:
    """Return whether `pack_attention` has changed the model."""
    config: Any = model.config
    return bool(config._attn_implementation == PACKED)


def packed_attention(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    attention_mask: Tensor | None,
    *,
    segment_lengths: Sequence[int] | None = None,
    segment_bounds: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Compute causal attention within each segment of the row.

    The signature is transformers': it passes on the segments, which are arguments of the model's forward.

    Args:
        module: Attention layer; unused.
        query_1HTD: Queries.
        key_1GTD: Keys.
        value_1GTD: Values.
        attention_mask: Must be None: the segments define what attends to what.
        segment_lengths: Tokens of each segment; they sum to T. None: the row is a single segment.
        segment_bounds: [segments + 1] int32 positions at which segments begin and end; None with `segment_lengths`.
        scaling: Factor of the scores; None is 1 / √D.
        sliding_window: Number of tokens that a token attends to at most, itself included; None is unlimited.
        dropout: Must be 0.
        **unused: Must ask for nothing that is not implemented here.

    Returns:
        [1, T, H, D] outputs, and None for attention weights.
    """
    assert attention_mask is None and not dropout and query_1HTD.shape[0] == 1
    assert unused.get("softcap") is None and unused.get("s_aux") is None, "see pack_attention"
    if segment_lengths is None or segment_bounds is None:
        segment_lengths = (query_1HTD.shape[2],)
        segment_bounds = torch.tensor([0, *segment_lengths], dtype=torch.int32, device=query_1HTD.device)
    if query_1HTD.is_cuda and query_1HTD.dtype in HALF_DTYPES:
        from torch.nn.attention.varlen import varlen_attn

        longest = max(segment_lengths)
        query_THD, key_TGD, value_TGD = (
            tensor[0].transpose(0, 1).contiguous() for tensor in (query_1HTD, key_1GTD, value_1GTD)
        )
        out = varlen_attn(
            query_THD, key_TGD, value_TGD, segment_bounds, segment_bounds, longest, longest, scale=scaling,
            window_size=((sliding_window or 0) - 1, 0), enable_gqa=True,  # a left window of -1 is unlimited
        )  # fmt: skip
        assert isinstance(out, Tensor)
        return out[None], None
    return _attend_per_segment(query_1HTD, key_1GTD, value_1GTD, segment_lengths, scaling, sliding_window), None


def _attend_per_segment(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    lengths: Sequence[int],
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Return [1, T, H, D] outputs by a call per segment: for devices and dtypes without a kernel of `varlen_attn`."""
    segments = (torch.split(tensor, list(lengths), dim=2) for tensor in (query_1HTD, key_1GTD, value_1GTD))
    is_grouped = query_1HTD.shape[1] != key_1GTD.shape[1]
    outputs = [
        nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=is_grouped
        )
        for query, key, value in zip(*segments, strict=True)
        for mask in [_window_mask(query.shape[2], window, query.device)]
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _window_mask(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Return a [length, length] mask of what attends to what; None where the window spans the segment."""
    if window is None or length <= window:
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)
