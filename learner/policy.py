"""The policy as a causal language model, and its log-probabilities of the candidates.

Shape suffixes: B groups, K candidates per group, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from learner.batch import Collate, Contexts, GroupBatch, pack_contexts, pad_contexts
from learner.packing import takes_packed
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.models import load_causal_lm, used_by_text

Policy = Callable[..., Any]
"""A causal language model as a callable; a training engine may wrap it."""


def candidate_logp(policy: Policy, batch: GroupBatch) -> Tensor:
    """Return [B, K] natural-log probabilities of the candidates after their contexts.

    One forward pass per confusion point: all K candidates share one row of logits.
    """
    return next_token_logp(policy, batch.contexts).gather(1, batch.candidate_ids_BK)


def next_token_logp(policy: Policy, contexts: Contexts) -> Tensor:
    """Return [B, V] float32 natural-log probabilities of every next token.

    The language-model head runs on one position per context, the last (`logits_to_keep`).
    """
    logits: Tensor = policy(**contexts.inputs, use_cache=False).logits
    # Packed: [1, B, V]; padded: [B, 1, V]. Softmax in float32: bfloat16 has 3 digits, and ratios are compared with 1.
    return logits.flatten(0, 1).float().log_softmax(dim=-1)


def collate_fn(model: nn.Module) -> Collate:
    """Return how contexts for a model are collated: packed after `pack_attention`, else padded."""
    return pack_contexts if takes_packed(model) else pad_contexts


def load_model(config: ModelConfig, dtype: torch.dtype, *, trainable: bool) -> nn.Module:
    """Load a causal language model with weights of `dtype`, frozen unless `trainable`, always in evaluation mode.

    Dropout would make the ratio π_θ / π_old differ from 1 before any step: the policy is trained as it is sampled.

    Raises:
        ModelError: The model cannot be found or read, or its weights do not match its configuration.
    """
    model: nn.Module = load_causal_lm(config, dtype)
    model.eval().requires_grad_(trainable)
    for name, parameter in model.named_parameters():
        if not used_by_text(name):
            parameter.requires_grad_(False)  # otherwise weight decay alone would change it
    return model


def enable_activation_checkpointing(model: nn.Module) -> None:
    """Trade time for memory: keep no activations inside the layers, recompute them in the backward pass."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers recomputes in training mode only, and reads that from the layer's own flag. Setting no other
            # flag leaves everything inside the layer, above all dropout, in evaluation mode.
            module.training = True
