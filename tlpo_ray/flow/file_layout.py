"""How the files of a model name and divide its weights: so they travel, and so a trained model is written.

transformers computes with another layout than the files of some models have: all experts of a layer in one tensor where
the files have one per expert, or the language part of a model of text and images without the prefix that it has there.
vLLM reads what the files have, so that is what the learner sends; a model in transformers is filled from it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.lora import wire_name
from tlpo_ray.flow.models import model_without_weights, used_by_text
from tlpo_ray.flow.weights import Bucket, TensorMeta, from_wire

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class FileLayout:
    """The layout of one model's files, and the constants among its weights; without arguments, that of a plain model.

    Made by `file_layout`.
    """

    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights that no optimizer steps and that are computed with: the bias by which DeepSeek-V3 balances its experts,
    the scales of Gemma 4's layers."""
    stub: Any = None
    """The model without weights, which knows how it was read from its files; None where it has the files' layout."""
    one_by_one: bool = True
    """Whether each parameter can be written without the others. Otherwise they travel under the model's own names."""

    def in_files(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters as the files have them: under other names, or divided into several tensors.

        Args:
            tensors: Complete parameters under the model's names; those of an adapter are yielded as they are.
        """
        for name, tensor in tensors:
            if self.stub is None or not self.one_by_one or ".lora_" in name:
                yield name, tensor
            else:
                yield from self.all_in_files({name: tensor}).items()

    def all_in_files(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return all parameters of the model as the files have them."""
        from transformers.core_model_loading import revert_weight_conversion

        if self.stub is None:
            return tensors
        reverted: dict[str, Tensor] = revert_weight_conversion(self.stub, tensors)
        # Parts of one tensor share its storage, which safetensors would write once per part.
        return {name: part if _is_whole(part) else part.clone() for name, part in reverted.items()}

    def metas_in_files(self, metas: Iterable[TensorMeta]) -> tuple[TensorMeta, ...]:
        """Return the metadata of what travels, parameters and constants, given that of the parameters."""
        import torch

        def empty(meta: TensorMeta) -> Tensor:
            return torch.empty(meta.shape, dtype=getattr(torch, meta.dtype), device="meta")

        tensors = [*self.in_files((meta.name, empty(meta)) for meta in metas), *self.constants.items()]
        return tuple(
            TensorMeta(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape))
            for name, tensor in tensors
        )

    def load(self, model: nn.Module, buckets: Iterable[Bucket]) -> None:
        """Overwrite weights of a model in transformers with those that have travelled.

        Args:
            model: The model that this is the layout of, with or without an adapter.
            buckets: Parameters as `in_files` yields them, and constants; not necessarily all.

        Raises:
            KeyError: The model has no weight of one of these names.
        """
        targets = self._targets(model)
        for bucket in buckets:
            for name, array in bucket:
                weight, positions = targets[name]
                value = from_wire(array).to(weight.device, weight.dtype)
                if positions is None:
                    weight.data.copy_(value)
                else:
                    weight.data.view(-1)[positions] = value.reshape(-1)

    def _targets(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Return by the name of each tensor that may arrive the weight that it belongs to, and its positions in it.

        The positions, in the flat weight, are None for a tensor that is the whole weight.
        """
        import torch

        constants = {name: buffer for name, buffer in model.named_buffers() if name in self.constants}
        targets: dict[str, tuple[Tensor, Tensor | None]] = {name: (buffer, None) for name, buffer in constants.items()}
        for name, parameter in model.named_parameters():
            weight, on_wire = parameter.data, wire_name(name)
            parts = list(self.in_files([(on_wire, weight)]))
            if len(parts) == 1 and parts[0][1] is weight:
                targets[parts[0][0]] = (parameter, None)
                continue
            # Positions in place of the weights: whatever the conversion divides or transposes, they tell.
            positions = torch.arange(parameter.numel(), device=parameter.device).view(parameter.shape)
            for in_file, part in self.in_files([(on_wire, positions)]):
                targets[in_file] = (parameter, part.reshape(-1))
        return targets


def _is_whole(tensor: Tensor) -> bool:
    return tensor.device.type == "meta" or tensor.untyped_storage().nbytes() == tensor.nbytes


PLAIN = FileLayout()
"""The layout of a model that transformers keeps as its files do."""


def file_layout(loaded: nn.Module, model: ModelConfig, *, adapter: bool = False) -> FileLayout:
    """Return the layout of a model's files.

    Args:
        loaded: The model as transformers has loaded it, before anything wraps or shards it.
        model: What it was loaded from.
        adapter: Whether only an adapter will travel, and no constant with it.

    Raises:
        ModelError: The model's configuration cannot be read.
    """
    parameters = dict(loaded.named_parameters(remove_duplicate=False))
    constants = {
        name: tensor.detach().cpu().clone()
        for name, tensor in loaded.state_dict().items()
        if name not in parameters and used_by_text(name) and not adapter
    }
    if not (conversions := getattr(loaded, "_weight_conversions", None)):
        return FileLayout(constants)
    stub: Any = model_without_weights(model)
    stub._weight_conversions = conversions
    layout, named = FileLayout(constants, stub), dict(stub.named_parameters())
    together, apart = layout.all_in_files(named), dict(layout.in_files(named.items()))
    same = {name: tensor.shape for name, tensor in together.items()} == {n: t.shape for n, t in apart.items()}
    return FileLayout(constants, stub, one_by_one=same)
