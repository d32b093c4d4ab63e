"""The policy as a causal language model, and its log-probabilities of the candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from learner.batch import Contexts, GroupBatch, Stack, pack_contexts, pad_contexts
from learner.packing import packs
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.flow.models import load_causal_lm

UNUSED = frozenset({"vision_tower", "multi_modal_projector"})
"""Modules of a model of text and images that text never passes through."""
Policy = Callable[..., Any]
"""A causal language model as something to call; an engine may stand between it and the caller."""


def candidate_logp(policy: Policy, batch: GroupBatch) -> Tensor:
    """[B, K] natural-log probabilities of the candidates after their contexts.

    One forward a confusion point: all K stand in one row of logits.
    """
    return next_token_logp(policy, batch.contexts).gather(1, batch.candidate_ids_BK)


def next_token_logp(policy: Policy, contexts: Contexts) -> Tensor:
    """[B, V] float32 natural-log probabilities of every next token.

    The language-model head runs on one position a context, the last (`logits_to_keep`).
    """
    logits: Tensor = policy(**contexts.inputs, use_cache=False).logits
    return logits.flatten(0, 1).float().log_softmax(dim=-1)


def stack_of(model: nn.Module) -> Stack:
    """How contexts for a model are stacked: packed after `pack_attention`, padded elsewhere."""
    return pack_contexts if packs(model) else pad_contexts


def load_model(config: ModelConfig, dtype: torch.dtype, *, trainable: bool) -> nn.Module:
    """A causal language model with `dtype` weights, frozen unless `trainable`, always in evaluation mode.

    Dropout would make the ratio differ from 1 before any step; the policy is trained as it is sampled.

    Raises:
        ModelError: see `load_causal_lm`.
    """
    model: nn.Module = load_causal_lm(config, dtype)
    model.eval().requires_grad_(trainable)
    for name, parameter in model.named_parameters():
        if not UNUSED.isdisjoint(name.split(".")):
            parameter.requires_grad_(False)  # else weight decay would move it
    return model


def recompute_activations(model: nn.Module) -> None:
    """Trade time for memory: keep no activations inside the layers, run their forward again in the backward pass."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers recomputes in training mode only. A layer's own flag is enough: what is inside it, dropout
            # above all, stays in evaluation mode.
            module.training = True
