"""Low-rank adapters on both sides: the learner trains one, the rollout actors load it. The only module with peft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.model import LoraConfig
from tlpo_ray.flow.models import safetensors_errors
from tlpo_ray.flow.weights import Bucket, from_wire

if TYPE_CHECKING:
    from torch import Tensor, nn

_PREFIX, _BASE, _NAME = "base_model.model.", ".base_layer.", ".default."
"""What PEFT inserts into parameter names: a prefix of all of them; a part in those of layers that have an adapter; and
the adapter's own name."""


def with_adapter(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Return the model with a new adapter, which changes no output yet; only its parameters are trainable."""
    from peft import get_peft_model

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
    peft_config(config).save_pretrained(folder)


def load_parameters(model: nn.Module, bucket: Bucket) -> None:
    """Overwrite parameters of a model with those of a bucket, matched by `wire_name`."""
    parameters = {wire_name(name): parameter for name, parameter in model.named_parameters()}
    for name, array in bucket:
        parameters[name].data.copy_(from_wire(array))


def merge_adapter(
    all_weights: Iterable[tuple[str, Tensor]], adapter: dict[str, Tensor], config: LoraConfig
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a plain model into which the adapter is merged: W + (α / rank) B A.

    The sum is computed in float32 and rounded once, to the dtype of W.

    Args:
        all_weights: Weights of a model with an adapter, both, under PEFT's names.
        adapter: The adapter's tensors by `wire_name`.
        config: Gives rank and α.
    """
    for name, tensor in all_weights:
        if ".lora_" in name:
            continue
        layer = name.replace(_BASE, ".").removesuffix("weight")
        down, up = (adapter.get(f"{layer}lora_{part}.weight") for part in "AB")
        if down is not None and up is not None:
            tensor = (tensor.float() + config.alpha / config.rank * (up.float() @ down.float())).to(tensor.dtype)
        yield name.replace(_BASE, ".").removeprefix(_PREFIX), tensor
