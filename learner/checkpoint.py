"""Checkpoints to continue from, and models to use. Both appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.errors import ResourceError, UserError, first_line

logger = logging.getLogger(__name__)

PREFIX = "update-"
STATE_FILE = "state.json"
"""Written last: a folder without it is no checkpoint."""
MAX_SHARD = "5GB"
SHARD = "state-{:05}.safetensors"
SHARD_BYTES = 1 << 30


def partial(root: Path, version: int) -> Path:
    """Where the ranks write a checkpoint until all of them are done."""
    return root / f"partial-{version:08d}"


def begin(root: Path, version: int) -> None:
    """Make room for a checkpoint: its empty partial folder, and away with what was half written or half removed."""
    removed_half = (folder for folder in root.glob(f"{PREFIX}*") if not (folder / STATE_FILE).exists())
    for leftover in (*root.glob("partial-*"), *removed_half):
        shutil.rmtree(leftover)
    partial(root, version).mkdir(parents=True)


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write tensors as safetensors files of about `SHARD_BYTES`: never more than one file's worth is in memory."""
    from safetensors.torch import save_file

    kept: dict[str, Tensor] = {}
    files = 0
    for name, tensor in tensors:
        kept[name] = tensor.detach().cpu().contiguous().clone()
        if sum(one.nbytes for one in kept.values()) >= SHARD_BYTES:
            save_file(kept, folder / SHARD.format(files))
            kept, files = {}, files + 1
    save_file(kept, folder / SHARD.format(files))


class Tensors:
    """Tensors of a checkpoint by name, read when asked for.

    Raises:
        UserError: the files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        try:
            for file in sorted(folder.glob("state-*.safetensors")):
                opened = self._stack.enter_context(safe_open(file, framework="pt"))
                self._files |= dict.fromkeys(opened.keys(), opened)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder} holds no whole checkpoint: {first_line(error)}") from error

    def read(self, name: str) -> Tensor:
        """One tensor.

        Raises:
            UserError: there is none of this name: the checkpoint is another model's.
        """
        if name not in self._files:
            raise UserError(f"{self._folder} has no {name}: it was written for another model")
        found: Tensor = self._files[name].get_tensor(name)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def commit(root: Path, version: int, state: Mapping[str, Any], keep_last: int) -> None:
    """Make a checkpoint that all ranks have written the latest one, and drop old ones."""
    folder = root / f"{PREFIX}{version:08d}"
    written = partial(root, version)
    files = {file.name: _digest(file) for file in sorted(written.iterdir())}
    content = {**state, "files": files}
    text = json.dumps({**content, "digest": _digest_of(content)}, indent=2)
    (written / STATE_FILE).write_text(text + "\n", encoding="utf-8")
    if folder.exists():
        _remove(folder)
    os.replace(written, folder)
    for old in checkpoints(root)[:-keep_last]:
        _remove(old)


def checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder for folder in root.glob(f"{PREFIX}*") if (folder / STATE_FILE).exists())


def version_of(folder: Path) -> int:
    """Policy version that a checkpoint holds."""
    return int(folder.name.removeprefix(PREFIX))


def newest(root: Path, layout: str, until: int) -> Path | None:
    """The latest checkpoint of at most version `until` that is whole, if there is one.

    Raises:
        UserError: the latest is whole but of another layout.
    """
    for folder in reversed(checkpoints(root)):
        if version_of(folder) > until:
            continue
        if not (bad := _damaged(folder)):
            read_state(folder, layout)
            return folder
        logger.warning("%s is damaged (%s): taking the one before, if there is one", folder, ", ".join(bad))
    return None


def _damaged(folder: Path) -> list[str]:
    """Names of a checkpoint's files that are not as they were written."""
    try:
        files = _state(folder)["files"]
    except (OSError, ValueError):
        return [STATE_FILE]
    return [name for name, digest in files.items() if _digest(folder / name) != digest]


def _state(folder: Path) -> dict[str, Any]:
    """A checkpoint's state as it was written.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    found = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.pop("digest", None) != _digest_of(found):
        raise ValueError("its checksum is wrong")
    return found


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _digest(file: Path) -> str:
    """Of a file's content; empty if there is none to read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "blake2b").hexdigest()[:32]
    except OSError:
        return ""


def read_state(folder: Path, layout: str) -> dict[str, Any]:
    """What was saved beside the weights.

    Args:
        layout: of the engine that is to load the weights.

    Raises:
        UserError: there is no checkpoint, or one of another layout.
    """
    try:
        state = _state(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no checkpoint: {STATE_FILE} is not there or damaged") from error
    if state["layout"] != layout:
        raise UserError(f"{folder} holds {state['layout']}, this run trains {layout}")
    return state


def export_model(tensors: Iterable[tuple[str, Tensor]], model: ModelConfig, folder: Path) -> None:
    """Write weights as a Hugging Face model folder, with configuration, tokenizer and chat template of `model`."""
    from huggingface_hub import save_torch_state_dict
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    written = folder.with_name(folder.name + ".partial")
    named = dict(tensors)
    source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    save_torch_state_dict(named, written, max_shard_size=MAX_SHARD, metadata={"format": "pt"})
    AutoConfig.from_pretrained(model.path, **source, dtype=model.dtype).save_pretrained(written)
    AutoTokenizer.from_pretrained(model.path, **source).save_pretrained(written)
    with suppress(OSError):  # without one, transformers takes the model's configuration
        GenerationConfig.from_pretrained(model.path, revision=model.revision).save_pretrained(written)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(written, folder)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Whatever the libraries raise about a full disk or a closed folder becomes one line.

    Raises:
        ResourceError: `what` cannot be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ResourceError(
            f"cannot write {what}: {first_line(error)}; free space there or choose another folder"
        ) from error


def _remove(folder: Path) -> None:
    # Its state first, so that a folder half removed is no checkpoint any more.
    (folder / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder)
