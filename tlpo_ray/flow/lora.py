"""Low-rank adapters on both ends: the learner trains one, the rollout actors get it. Alone imports peft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.run import LoraConfig
from tlpo_ray.flow.weights import Bucket, from_wire

if TYPE_CHECKING:
    from torch import Tensor, nn

_PREFIX, _BASE, _NAME = "base_model.model.", ".base_layer.", ".default."
"""What PEFT puts into names: before all, into those that an adapter stands beside, and into the adapter's."""


def with_adapter(model: nn.Module, config: LoraConfig) -> nn.Module:
    """The model with a new adapter, which changes nothing yet and alone is trained."""
    from peft import get_peft_model

    found: nn.Module = get_peft_model(model, peft_config(config))
    return found


def peft_config(config: LoraConfig) -> Any:
    """PEFT's description of the adapter."""
    import peft

    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # any number will do
        target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )


def wire_name(name: str) -> str:
    """A parameter's name as files of adapters have it, and vLLM; names without an adapter stay as they are."""
    return name.replace(_NAME, ".", 1) if ".lora_" in name else name


def write_adapter(bucket: Bucket, config: LoraConfig, folder: Path) -> None:
    """An adapter as a folder that PEFT and vLLM read."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: from_wire(array) for name, array in bucket}, folder / "adapter_model.safetensors")
    peft_config(config).save_pretrained(folder)


def load_parameters(model: nn.Module, bucket: Bucket) -> None:
    """Replace parameters of a model, by their names on the wire."""
    parameters = {wire_name(name): parameter for name, parameter in model.named_parameters()}
    for name, array in bucket:
        parameters[name].data.copy_(from_wire(array))


def merged(
    everything: Iterable[tuple[str, Tensor]], adapter: dict[str, Tensor], config: LoraConfig
) -> Iterator[tuple[str, Tensor]]:
    """A plain model's weights, with what the adapter adds: W + (α / rank) B A.

    Args:
        everything: all weights of a model with an adapter, under PEFT's names.
        adapter: the adapter's, by `wire_name`.
    """
    for name, tensor in everything:
        if ".lora_" in name:
            continue
        beside = name.replace(_BASE, ".").removesuffix("weight")
        down, up = (adapter.get(f"{beside}lora_{part}.weight") for part in "AB")
        if down is not None and up is not None:
            tensor = (tensor.float() + config.alpha / config.rank * (up.float() @ down.float())).to(tensor.dtype)
        yield name.replace(_BASE, ".").removeprefix(_PREFIX), tensor
