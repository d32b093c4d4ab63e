"""Checkpoints to resume from, and models to use. Both appear in their folder completely or not at all.

A checkpoint folder `update-00000042` holds safetensors files with `TrainEngine.state_tensors`, and `state.json`:

    {"version": 42, "layout": "all weights", "files": {"state-00000.safetensors": DIGEST}, "digest": DIGEST}
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Set
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.files import share_weights
from tlpo_ray.flow.file_layout import PLAIN, FileLayout
from tlpo_ray.flow.models import safetensors_errors, tied_names, weight_files
from tlpo_ray.flow.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

PREFIX = "update-"
STATE_FILE = "state.json"
"""Written last and removed first: a folder without it is not a checkpoint."""
MAX_SHARD = "5GB"
"""Maximum size of a file of an exported model; Hugging Face's own default."""
SHARD = "state-{:05}.safetensors"


def partial_folder(root: Path, version: int) -> Path:
    """Return the folder that a checkpoint is written into until it is complete."""
    return root / f"partial-{version:08d}"


def begin(root: Path, version: int) -> None:
    """Create the empty partial folder of a checkpoint, and remove what is half written or half removed below `root`."""
    half_removed = (folder for folder in root.glob(f"{PREFIX}*") if not (folder / STATE_FILE).exists())
    for leftover in (*root.glob("partial-*"), *half_removed):
        shutil.rmtree(leftover)
    partial_folder(root, version).mkdir(parents=True)


def write_shard(folder: Path, number: int, tensors: dict[str, Tensor]) -> None:
    """Write some of a checkpoint's tensors as one of its files.

    Args:
        folder: The partial folder of the checkpoint.
        number: Number of the file, from 0.
        tensors: Contiguous tensors in the host's memory, by name.

    Raises:
        OSError: The folder cannot be written.
    """
    from safetensors.torch import save_file

    with safetensors_errors():
        save_file(tensors, folder / SHARD.format(number))


class TensorReader:
    """Reads tensors of a checkpoint by name, each when it is requested.

    Args:
        folder: Checkpoint folder.

    Raises:
        UserError: The files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        """Open file by the name of a tensor in it."""
        try:
            for file in sorted(folder.glob("state-*.safetensors")):
                opened = self._stack.enter_context(safe_open(file, framework="pt"))
                self._files |= dict.fromkeys(opened.keys(), opened)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder} does not hold a complete checkpoint: {first_line(error)}") from error

    def read(self, name: str) -> Tensor:
        """Return a tensor.

        Raises:
            UserError: The checkpoint has no tensor of this name: it was written for another model.
        """
        if name not in self._files:
            raise UserError(f"{self._folder} has no {name}: it was written for another model")
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def commit(root: Path, version: int, layout: str, keep_last: int) -> None:
    """Make a checkpoint the latest one once its tensors are written, and remove the oldest.

    Args:
        root: Folder of all checkpoints of a run.
        version: Policy version.
        layout: `TrainEngine.layout` of the engine that wrote it.
        keep_last: Number of checkpoints to keep, this one included.
    """
    folder = root / f"{PREFIX}{version:08d}"
    partial = partial_folder(root, version)
    share_weights(partial)
    files = {file.name: _file_digest(file) for file in sorted(partial.iterdir())}
    state = {"version": version, "layout": layout, "files": files}
    text = json.dumps({**state, "digest": _state_digest(state)}, indent=2)
    (partial / STATE_FILE).write_text(text + "\n", encoding="utf-8")
    if folder.exists():  # the same version again: the run was resumed from an earlier checkpoint
        _remove(folder)
    os.replace(partial, folder)
    for old in checkpoints(root)[:-keep_last]:
        _remove(old)


def checkpoints(root: Path) -> list[Path]:
    """Return the folders of all complete checkpoints below `root`, oldest first."""
    return sorted(folder for folder in root.glob(f"{PREFIX}*") if (folder / STATE_FILE).exists())


def version_of(folder: Path) -> int:
    """Return the policy version that a checkpoint holds, from its folder's name."""
    return int(folder.name.removeprefix(PREFIX))


def newest(root: Path, layout: str, until: int) -> Path | None:
    """Return the folder of the newest intact checkpoint of at most version `until`; None if there is none.

    Damaged checkpoints are skipped with a warning.

    Args:
        root: Folder of all checkpoints of a run.
        layout: `TrainEngine.layout` of the engine that is to load it.
        until: Newest policy version that is acceptable.

    Raises:
        UserError: The newest intact one is of another layout.
    """
    for folder in reversed(checkpoints(root)):
        if version_of(folder) > until:
            continue
        if not (damaged := _damaged_files(folder)):
            read_version(folder, layout)
            return folder
        logger.warning("%s is damaged (%s): using the one before it, if there is one", folder, ", ".join(damaged))
    return None


def read_version(folder: Path, layout: str) -> int:
    """Return the policy version of a checkpoint.

    Args:
        folder: Checkpoint folder.
        layout: `TrainEngine.layout` of the engine that is to load it.

    Raises:
        UserError: The folder does not hold a checkpoint, or one of another layout.
    """
    try:
        state = _read_state(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} does not hold a checkpoint: {STATE_FILE} is missing or damaged") from error
    if state["layout"] != layout:
        raise UserError(f"{folder} holds {state['layout']}, this run trains {layout}")
    return int(state["version"])


def _damaged_files(folder: Path) -> list[str]:
    """Return the names of a checkpoint's files that are missing or have changed since they were written."""
    try:
        files = _read_state(folder)["files"]
    except (OSError, ValueError):
        return [STATE_FILE]
    return [name for name, digest in files.items() if _file_digest(folder / name) != digest]


def _read_state(folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's `state.json`; earlier releases may have written more keys than we do.

    Raises:
        OSError: The file does not exist.
        ValueError: It is damaged.
    """
    state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(state, dict) or state.pop("digest", None) != _state_digest(state):
        raise ValueError("its checksum is wrong")
    return state


def _state_digest(state: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(state, sort_keys=True).encode(), digest_size=16).hexdigest()


def _file_digest(file: Path) -> str:
    """Return a digest of a file's content; empty if it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "blake2b").hexdigest()[:32]
    except OSError:
        return ""


def export_model(
    tensors: Iterable[tuple[str, Tensor]], model: ModelConfig, folder: Path, layout: FileLayout = PLAIN
) -> None:
    """Write weights as a Hugging Face model folder, with configuration, tokenizer and chat template of `model`.

    What is not trained is copied from the model's files: the parts that see and hear, constants, and weights that
    transformers does not read, such as those that predict several tokens at once. A weight that the model ties to
    another one is written if it is among `tensors`, and the configuration then says that it is not tied any more.

    Args:
        tensors: Weights under Hugging Face names.
        model: The model that training started from.
        folder: Replaced if it exists.
        layout: How the model's files have its weights.

    Raises:
        OSError: The folder cannot be written.
    """
    from huggingface_hub import save_torch_state_dict
    from transformers import AutoConfig, GenerationConfig

    partial = folder.with_name(folder.name + ".partial")
    own = dict(tensors)
    untied = layout.all_in_files({name: own[name] for name in sorted(own.keys() & tied_names(model))})
    named = layout.all_in_files(own)
    named = {**layout.constants, **_not_trained(model, named, untied.keys()), **named}
    source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with safetensors_errors():
        save_torch_state_dict(named, partial, max_shard_size=MAX_SHARD, metadata={"format": "pt"})
    share_weights(partial)
    config = AutoConfig.from_pretrained(model.path, **source, dtype=model.dtype)
    if untied:
        for part in (config, config.get_text_config()):
            part.tie_word_embeddings = False
    config.save_pretrained(partial)
    load_tokenizer(model).save_pretrained(partial)
    with suppress(OSError):  # a model without generation_config.json: transformers derives one when it loads
        GenerationConfig.from_pretrained(model.path, revision=model.revision).save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)  # the only step that makes the model appear


def _not_trained(model: ModelConfig, trained: Mapping[str, Tensor], untied: Set[str]) -> dict[str, Tensor]:
    """Return the tensors of a model's files that training has not replaced.

    Args:
        model: The model that training started from.
        trained: What has been trained, as the files have it.
        untied: Names in it that the files need not have, because the model ties them to others.
    """
    from safetensors import safe_open

    files, names = weight_files(model), dict[str, str]()
    for file in files:
        with safe_open(file, "pt") as content:
            names.update(dict.fromkeys(content.keys(), file))
    if unknown := sorted(trained.keys() - names.keys() - untied):
        # Then nobody knows which of the files' tensors have been trained under another name.
        if names:
            logger.warning("the files of %s have no weight %s: nothing is copied from them", model.path, unknown[0])
        return {}
    kept = names.keys() - trained.keys() - tied_names(model)
    tensors: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as content:
            tensors.update((name, content.get_tensor(name)) for name in sorted(kept) if names[name] == file)
    return tensors


def _remove(folder: Path) -> None:
    # state.json first: a folder that is removed only half is then no longer a checkpoint.
    (folder / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder)
