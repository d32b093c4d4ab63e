"""Attention over contexts that stand one after another in one row: each sees itself alone, and nothing is padded.

Through transformers' attention interface, so every model that takes its attention from there can be packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PACKED = "tlpo_packed"
"""Name of the attention in transformers' registry."""
HALF = (torch.bfloat16, torch.float16)


def pack_attention(model: nn.Module) -> bool:
    """Let a model take packed contexts; False, and nothing changed, where its attention cannot be replaced.

    So are models that cap scores (Gemma 2) or add sinks to them (gpt-oss): they do more than `packed_attention`.
    """
    from transformers import AttentionInterface

    replaceable: bool = getattr(model, "_supports_attention_backend", False)
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    sinks = any(name.endswith(".sinks") for name, _ in model.named_parameters())
    can = replaceable and not capped and not sinks
    if can:
        AttentionInterface.register(PACKED, packed_attention)
        model.set_attn_implementation(PACKED)  # type: ignore[operator]
    return can


def packs(model: nn.Module) -> bool:
    """Whether `pack_attention` has changed the model."""
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
    """Causal attention inside each segment of the row, [1, T, H, D].

    Args:
        attention_mask: none; segments say who sees whom.
        segment_lengths: tokens of each segment; they sum to T. None: the row is one segment.
        segment_bounds: [segments + 1] int32, where segments begin and end; None with `segment_lengths`.
        scaling: of the scores; none is 1 / √D.
        sliding_window: most tokens a token sees, itself among them.
    """
    assert attention_mask is None and not dropout and query_1HTD.shape[0] == 1
    assert unused.get("softcap") is None and unused.get("s_aux") is None, "see pack_attention"
    if segment_lengths is None or segment_bounds is None:
        segment_lengths = (query_1HTD.shape[2],)
        segment_bounds = torch.tensor([0, *segment_lengths], dtype=torch.int32, device=query_1HTD.device)
    if query_1HTD.is_cuda and query_1HTD.dtype in HALF:
        from torch.nn.attention.varlen import varlen_attn

        longest = max(segment_lengths)
        query_THD, key_TGD, value_TGD = (
            tensor[0].transpose(0, 1).contiguous() for tensor in (query_1HTD, key_1GTD, value_1GTD)
        )
        out = varlen_attn(
            query_THD, key_TGD, value_TGD, segment_bounds, segment_bounds, longest, longest, scale=scaling,
            window_size=((sliding_window or 0) - 1, 0), enable_gqa=True,
        )  # fmt: skip
        assert isinstance(out, Tensor)
        return out[None], None
    return _one_by_one(query_1HTD, key_1GTD, value_1GTD, segment_lengths, scaling, sliding_window), None


def _one_by_one(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    lengths: Sequence[int],
    scaling: float | None,
    window: int | None,
) -> Tensor:
    split = (torch.split(tensor, list(lengths), dim=2) for tensor in (query_1HTD, key_1GTD, value_1GTD))
    shared = query_1HTD.shape[1] != key_1GTD.shape[1]
    found = [
        nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
        )
        for query, key, value in zip(*split, strict=True)
        for mask in [_band(query.shape[2], window, query.device)]
    ]
    return torch.cat(found, dim=2).transpose(1, 2).contiguous()


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """[length, length] who sees whom; None where everything before is seen."""
    if window is None or length <= window:
        return None
    at = torch.arange(length, device=device)
    behind = at[:, None] - at[None, :]
    return (behind >= 0) & (behind < window)
