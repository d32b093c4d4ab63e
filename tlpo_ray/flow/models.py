"""A model as learner and rollout actors both load it, and what is told of one that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.errors import ModelError, TlpoError, first_line

if TYPE_CHECKING:
    import torch


@contextmanager
def reading(what: str, more: str = "") -> Iterator[None]:
    """Whatever the libraries raise about a model becomes one line: of a damaged file they raise anything.

    Args:
        what: is wrong if they do.
        more: what to do then.

    Raises:
        ModelError: they did.
    """
    try:
        yield
    except TlpoError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ModelError(f"{what}: {kind}{first_line(error)}{more}") from error


def parameters_of(model: ModelConfig) -> int:
    """How many a causal language model has, tied ones counted once; no weights are read.

    Raises:
        ModelError: its configuration cannot be found or read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with reading(f"model {model.path!r} cannot be read"), torch.device("meta"):
        trust = {"trust_remote_code": model.trust_remote_code}
        config = AutoConfig.from_pretrained(model.path, revision=model.revision, **trust)
        return sum(one.numel() for one in AutoModelForCausalLM.from_config(config, **trust).parameters())


def load_causal_lm(model: ModelConfig, dtype: torch.dtype) -> Any:
    """A causal language model with `dtype` weights.

    Raises:
        ModelError: it cannot be found or read, or its weights are not those of its configuration.
    """
    from transformers import AutoModelForCausalLM

    with reading(f"model {model.path!r} cannot be loaded"):
        try:
            return AutoModelForCausalLM.from_pretrained(
                model.path,
                revision=model.revision,
                dtype=dtype,
                trust_remote_code=model.trust_remote_code,
                use_safetensors=None if model.allow_pickle else True,
            )
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise
            raise ValueError("its weights have other sizes than its config.json says") from error


def eos_set(configured: int | list[int] | None) -> frozenset[int]:
    """End-of-text tokens as a model's configuration gives them: one, several or none."""
    if configured is None:
        return frozenset()
    return frozenset(configured if isinstance(configured, list) else [configured])
