"""Low-rank adapters on both sides: the learner trains one, the rollout actors load it. The only module with peft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.errors import ConfigError
from tlpo_ray.files import share_weights
from tlpo_ray.flow.models import model_without_weights, safetensors_errors, used_by_text
from tlpo_ray.flow.weights import Bucket, from_wire

if TYPE_CHECKING:
    from torch import Tensor, nn

_PREFIX, _BASE, _NAME = "base_model.model.", ".base_layer.", ".default."
"""What PEFT inserts into parameter names: a prefix of all of them; a part in those of layers that have an adapter; and
the adapter's own name."""


def check_targets(model: ModelConfig, config: LoraConfig) -> None:
    """Check that a model has layers of all the names that shall get an adapter; no weights are read.

    Raises:
        ModelError: The model's configuration cannot be found or read.
        ConfigError: A name matches no layer; the message names the model's layers.
    """
    _check_layers(linear_layers(model_without_weights(model)), config, model.path)


def linear_layers(model: nn.Module) -> dict[str, bool]:
    """Return the names of the linear layers that text passes through and that have weights of their own.

    The value is whether the layer stores its weight as [in, out] (`Conv1D` of GPT-2) instead of [out, in]. A head that
    is tied to the embeddings is not among them: an adapter would tear the two apart.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    own = {name for name, _ in model.named_parameters()}  # without the second name of tied parameters
    return {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and f"{name}.weight" in own and used_by_text(name)
    }


def _check_layers(layers: Iterable[str], config: LoraConfig, model: str) -> None:
    dotted = [f".{layer}" for layer in layers]
    missing = [target for target in config.targets if not any(layer.endswith(f".{target}") for layer in dotted)]
    if not missing:
        return
    # In the model's order; not the head, although one that is not tied is possible: adapters seldom have it.
    found = ", ".join(dict.fromkeys(name for layer in dotted if (name := layer.rpartition(".")[2]) != "lm_head"))
    raise ConfigError(
        f"learner.lora.targets: {model!r} has no linear layer called {' or '.join(missing)}; it has "
        f"{found}: set learner.lora.targets=[{found}], or some of them"
    )


def with_adapter(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Return the model with a new adapter, which changes no output yet; only its parameters are trainable.

    Raises:
        ConfigError: A name in `config.targets` matches no linear layer of the model.
    """
    from peft import get_peft_model

    # PEFT itself leaves out names without a match, as long as one has some.
    _check_layers(linear_layers(model), config, str(getattr(model, "name_or_path", "")))
    adapted: nn.Module = get_peft_model(model, peft_config(config))
    return adapted


def peft_config(config: LoraConfig) -> Any:
    """Return PEFT's description of the adapter."""
    import peft

    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # any number will do
        target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )


def wire_name(name: str) -> str:
    """Return a parameter's name as adapter files and vLLM have it; names outside an adapter are returned unchanged."""
    return name.replace(_NAME, ".", 1) if ".lora_" in name else name


def write_adapter(bucket: Bucket, config: LoraConfig, folder: Path) -> None:
    """Write an adapter as a folder that PEFT and vLLM can load.

    Args:
        bucket: The adapter's tensors by `wire_name`.
        config: The adapter's rank, scale and layers.
        folder: Created if it does not exist.

    Raises:
        OSError: The folder cannot be written.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with safetensors_errors():
        save_file({name: from_wire(array) for name, array in bucket}, folder / "adapter_model.safetensors")
    share_weights(folder)
    peft_config(config).save_pretrained(folder)


def merge_adapter(
    all_weights: Iterable[tuple[str, Tensor]],
    adapter: dict[str, Tensor],
    config: LoraConfig,
    layers: Mapping[str, bool],
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a plain model into which the adapter is merged: W + (α / rank) B A.

    The sum is computed in float32 and rounded once, to the dtype of W.

    Args:
        all_weights: Weights of a model with an adapter, both, under PEFT's names.
        adapter: The adapter's tensors by `wire_name`.
        config: Gives rank and α.
        layers: `linear_layers` of the plain model.
    """
    for name, tensor in all_weights:
        if ".lora_" in name:
            continue
        plain_name = name.replace(_BASE, ".").removeprefix(_PREFIX)
        layer = plain_name.removesuffix(".weight")
        down, up = (adapter.get(f"{_PREFIX}{layer}.lora_{part}.weight") for part in "AB")
        if down is not None and up is not None:
            change = config.alpha / config.rank * (up.float() @ down.float())
            tensor = (tensor.float() + (change.T if layers[layer] else change)).to(tensor.dtype)
        yield plain_name, tensor
