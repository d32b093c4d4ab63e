"""The policy as a causal language model, and its log-probabilities of the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from learner.batch import GroupBatch
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.flow.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable


def candidate_logp(model: Callable[..., Any], batch: GroupBatch) -> Tensor:
    """[B, K] natural-log probabilities of the candidates after their contexts.

    One forward a confusion point: all K stand in one row of logits, so the language-model head runs on one position
    of each context (`logits_to_keep=1`; contexts are left-padded).
    """
    return next_token_logp(model, batch).gather(1, batch.candidate_ids_BK)


def next_token_logp(model: Callable[..., Any], batch: GroupBatch) -> Tensor:
    """[B, V] float32 natural-log probabilities of every next token."""
    logits_B1V = model(
        input_ids=batch.input_ids_BL,
        attention_mask=batch.attention_mask_BL,
        position_ids=batch.position_ids_BL,
        use_cache=False,
        logits_to_keep=1,
    ).logits
    return torch.as_tensor(logits_B1V)[:, -1].float().log_softmax(dim=-1)


def load_model(config: ModelConfig, dtype: torch.dtype, *, trainable: bool) -> nn.Module:
    """A causal language model with `dtype` weights; frozen and in evaluation mode unless `trainable`.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            config.path,
            revision=config.revision,
            dtype=dtype,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model {config.path!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    model.config.use_cache = False
    # Dropout would make the ratio differ from 1 before any step; the policy is trained as it is sampled.
    model.eval()
    model.requires_grad_(trainable)
    return model  # type: ignore[no-any-return]
