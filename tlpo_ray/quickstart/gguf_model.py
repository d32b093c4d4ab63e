"""Converts a model in one GGUF file, quantised, to a Hugging Face model folder in float32."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from tlpo_ray.errors import ModelError


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into a Hugging Face model folder, with weights in float32.

    Raises:
        ModelError: The package `gguf` is not installed, or the tokenizer is of a kind that is not known here.
    """
    from transformers.utils.import_utils import is_gguf_available

    if not is_gguf_available():
        raise ModelError("the package gguf, which reads GGUF files, is missing or too old: pip install gguf==0.19.0")
    with redirect_stderr(StringIO()):  # a progress bar of transformers that no setting of it switches off
        _save_tokenizer(file, folder)
        _save_weights(file, folder)


def _save_weights(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import GgufConfig

    quantised = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # transformers still counts it as quantised, and refuses to save it: its weights move into a model that never was.
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(quantised)._from_config(type(quantised.config).from_dict(settings), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(folder)


def _save_tokenizer(file: Path, folder: Path) -> None:
    """Save the tokenizer that a GGUF file describes, with two of its settings that transformers 5.19 overlooks."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    reader = GGUFReader(file)
    begins = {"add_bos_token": True} if _field(reader, "add_bos_token") else {}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **begins)
    match _field(reader, "pre"):
        case None | "default":
            pass
        case "smollm":  # each digit is a token of its own, so that a blank line before "1." stays one token
            digits, rest = (
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            )
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
        case other:
            raise ModelError(f"{file.name}: its pre-tokenizer {other!r} is not supported")
    tokenizer.save_pretrained(folder)


def _field(reader: Any, name: str) -> Any:
    """Return a setting of the tokenizer in a GGUF file; None if the file lacks it."""
    field = reader.get_field(f"tokenizer.ggml.{name}")
    return None if field is None else field.contents()
