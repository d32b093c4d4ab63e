"""Loading a model as both the learner and the rollout actors do, and reporting one that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError, TlpoError, first_line
from tlpo_ray.loading import heavy_imports

if TYPE_CHECKING:
    import torch
    from torch import nn

_UNUSED_BY_TEXT = frozenset(
    {
        "vision_tower",
        "vision_model",
        "visual",
        "audio_tower",
        "multi_modal_projector",
        "connector",
        "embed_vision",
        "embed_audio",
    }
)
"""Modules of a model of text, images and sound that text never passes through."""

ATTENTIONS = frozenset({"full_attention", "sliding_attention", "chunked_attention", "attention"})
"""Kinds of layers, as configurations name them, in which tokens attend to each other."""


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


def text_config(model: ModelConfig) -> Any:
    """Return the configuration of a model's language part.

    Raises:
        ModelError: The model's configuration cannot be found or read.
    """
    from transformers import AutoConfig

    with model_errors(f"model {model.path!r}: its config.json cannot be read"):
        source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
        return AutoConfig.from_pretrained(model.path, **source).get_text_config()


def attends_only(config: Any) -> bool:
    """Return whether tokens of a model learn of each other by attention alone.

    Others have layers with a convolution or a recurrent state as well (Qwen3.5, LFM2, Mamba and its hybrids).

    Args:
        config: Configuration of the language part.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) | set(getattr(config, "layers_block_type", None) or ())
    return kinds <= ATTENTIONS


def check_not_quantized(config: Any, model: ModelConfig) -> None:
    """Check that a model's weights are numbers that an optimizer can step.

    Args:
        config: The model's configuration.
        model: What it was read from.

    Raises:
        ModelError: They are quantized.
    """
    if quantization := getattr(config, "quantization_config", None):
        kind = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        raise ModelError(
            f"model {model.path!r} is quantized ({getattr(kind, 'value', kind)}), and only plain weights can be "
            f"trained: take an unquantized copy, or save one with transformers' dequantize option (Mxfp4Config for "
            f"gpt-oss, FineGrainedFP8Config for fp8)"
        )


def tied_names(model: ModelConfig) -> set[str]:
    """Return the further names of tied parameters, which are other names of parameters that have one already.

    Raises:
        ModelError: The model's configuration cannot be found or read.
    """
    made = model_without_weights(model)
    every = {name for name, _ in made.named_parameters(remove_duplicate=False)}
    return every - {name for name, _ in made.named_parameters()}


def weight_files(model: ModelConfig) -> list[str]:
    """Return the paths of a model's safetensors files, in its folder or in the hub's cache; empty if it has none.

    Raises:
        ModelError: A file that the index names cannot be found.
    """
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
    from transformers.utils.hub import get_checkpoint_shard_files

    source = {"revision": model.revision, "_raise_exceptions_for_missing_entries": False}
    with model_errors(f"model {model.path!r}: its weights cannot be found"):
        if index := cached_file(model.path, SAFE_WEIGHTS_INDEX_NAME, **source):
            return list(get_checkpoint_shard_files(model.path, index, revision=model.revision)[0])
        single = cached_file(model.path, SAFE_WEIGHTS_NAME, **source)
        return [] if single is None else [str(single)]


def load_causal_lm(model: ModelConfig, dtype: torch.dtype) -> Any:
    """Load a causal language model with weights of `dtype`.

    Raises:
        ModelError: The model cannot be found or read, or its weights do not match its configuration.
    """
    with heavy_imports():
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


def used_by_text(name: str) -> bool:
    """Return whether text passes through a module or parameter of a model of text, images and sound.

    Args:
        name: Its name, in dotted parts.
    """
    return _UNUSED_BY_TEXT.isdisjoint(name.split("."))


def eos_token_ids(configured: int | list[int] | None) -> frozenset[int]:
    """Return the end-of-text tokens of a model as a set.

    Args:
        configured: `eos_token_id` of the model's configuration, which may name one token, several or none.
    """
    if configured is None:
        return frozenset()
    return frozenset(configured if isinstance(configured, list) else [configured])
