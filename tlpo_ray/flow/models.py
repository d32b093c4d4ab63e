"""A model as learner and rollout actors both load it, and what is told of one that is damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.flow.errors import ModelError, TlpoError, first_line

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


def parameters_in(folder: Path) -> int:
    """How many a model folder's safetensors files hold; 0 if there is none.

    Raises:
        ModelError: one is damaged.
    """
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with reading(f"{file} cannot be read"), safe_open(file, "pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


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
