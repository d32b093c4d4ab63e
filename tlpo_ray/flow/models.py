"""Loading a model as both the learner and the rollout actors do, and reporting one that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError, TlpoError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

UNUSED_BY_TEXT = frozenset({"vision_tower", "multi_modal_projector"})
"""Modules of a model of text and images that text never passes through."""


@contextmanager
def model_errors(problem: str, advice: str = "") -> Iterator[None]:
    """Turn any exception about a model that is raised inside the block into a one-line ModelError.

    Catches `Exception` because transformers, tokenizers and safetensors raise nearly every kind of exception about a
    damaged file. Errors of this project pass through unchanged.

    Args:
        problem: What is wrong if they raise one, e.g. "model 'x' cannot be loaded".
        advice: What the user should do about it, appended to the message.

    Raises:
        ModelError: Something was raised inside the block; the message ends with its first line.
    """
    try:
        yield
    except TlpoError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ModelError(f"{problem}: {kind}{first_line(error)}{advice}") from error


@contextmanager
def safetensors_errors() -> Iterator[None]:
    """Turn safetensors' own exception, which it raises when a disk is full, into an OSError.

    Raises:
        OSError: Reading or writing tensors failed inside the block.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(first_line(error)) from error


def count_parameters(model: ModelConfig) -> int:
    """Return the number of parameters of a causal language model, tied ones counted once; no weights are read.

    Raises:
        ModelError: The model's configuration cannot be found or read.
    """
    return sum(parameter.numel() for parameter in model_without_weights(model).parameters())


def model_without_weights(model: ModelConfig) -> nn.Module:
    """Return a causal language model with parameters that have a shape and no values; no weights are read.

    Raises:
        ModelError: The model's configuration cannot be found or read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with model_errors(f"model {model.path!r} cannot be read"), torch.device("meta"):
        trust = {"trust_remote_code": model.trust_remote_code}
        config = AutoConfig.from_pretrained(model.path, revision=model.revision, **trust)
        made: nn.Module = AutoModelForCausalLM.from_config(config, **trust)
        return made


def load_causal_lm(model: ModelConfig, dtype: torch.dtype) -> Any:
    """Load a causal language model with weights of `dtype`.

    Raises:
        ModelError: The model cannot be found or read, or its weights do not match its configuration.
    """
    from transformers import AutoModelForCausalLM

    with model_errors(f"model {model.path!r} cannot be loaded"):
        try:
            return AutoModelForCausalLM.from_pretrained(
                model.path,
                revision=model.revision,
                dtype=dtype,
                trust_remote_code=model.trust_remote_code,
                use_safetensors=None if model.allow_pickle else True,
            )
        except RuntimeError as error:
            # transformers' advice (ignore_mismatched_sizes) would silently train a partly random model.
            if "ignore_mismatched_sizes" not in str(error):
                raise
            raise ValueError("its weights have other sizes than its config.json says") from error


def eos_token_ids(configured: int | list[int] | None) -> frozenset[int]:
    """Return the end-of-text tokens of a model as a set.

    Args:
        configured: `eos_token_id` of the model's configuration, which may name one token, several or none.
    """
    if configured is None:
        return frozenset()
    return frozenset(configured if isinstance(configured, list) else [configured])
