"""Checkpoints to continue from, and models to use. Both appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.flow.errors import ResourceError
from tlpo_ray.flow.weights import WireTensor, from_wire

PREFIX = "update-"
MAX_SHARD = "5GB"


def partial(root: Path, version: int) -> Path:
    """Where the ranks write a checkpoint until all of them are done."""
    return root / f"partial-{version:08d}"


def commit(root: Path, version: int, state: Mapping[str, Any], keep_last: int) -> Path:
    """Make a checkpoint that all ranks have written the latest one, and drop old ones; its folder."""
    folder = root / f"{PREFIX}{version:08d}"
    written = partial(root, version)
    (written / "state.json").write_text(json.dumps(dict(state), indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(written, folder)
    for old in checkpoints(root)[:-keep_last]:
        shutil.rmtree(old)
    return folder


def checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder for folder in root.glob(f"{PREFIX}*") if (folder / "state.json").exists())


def export_model(tensors: Iterable[tuple[str, WireTensor]], model: ModelConfig, folder: Path) -> None:
    """Write weights as a Hugging Face model folder, with configuration, tokenizer and chat template of `model`.

    Raises:
        ResourceError: the folder cannot be written.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    written = folder.with_name(folder.name + ".partial")
    named = {name: from_wire(array.copy()) for name, array in tensors}
    source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    try:
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir(parents=True)
        _save_tensors(named, written)
        AutoConfig.from_pretrained(model.path, **source).save_pretrained(written)
        AutoTokenizer.from_pretrained(model.path, **source).save_pretrained(written)
        with suppress(OSError):  # without one, transformers takes the model's configuration
            GenerationConfig.from_pretrained(model.path, revision=model.revision).save_pretrained(written)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(written, folder)
    except OSError as error:
        raise ResourceError(f"cannot write the model to {folder}: {error.strerror or error}") from error


def _save_tensors(named: dict[str, torch.Tensor], folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(named, folder, max_shard_size=MAX_SHARD, metadata={"format": "pt"})
