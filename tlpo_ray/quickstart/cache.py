"""Folders of models that were made on this machine and are used again: below `~/.cache/tlpo-ray`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlpo_ray.files import share_weights
from tlpo_ray.stopping import temporary_folder


def cache_root() -> Path:
    """Return the folder of all cached models; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tlpo-ray"


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `folder` when the block ends, and is removed if it raises."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(".partial-", folder.parent) as partial:
        yield partial
        share_weights(partial)
        _replace(partial, folder)


def _replace(partial: Path, folder: Path) -> None:
    """Move a finished folder into place; a reader sees the old one or the new one, never a part of one."""
    partial.chmod(0o755)  # it was made so that only its owner can read it
    if folder.exists():
        with temporary_folder(".old-", folder.parent) as old:
            folder.rename(old / folder.name)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was faster and made the same model
            raise
