"""Trained toy models on disk, so that only the first quickstart of an installation trains one."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tlpo_ray.quickstart import toy_model
from tlpo_ray.quickstart import world as worlds
from tlpo_ray.quickstart.toy_model import Progress, ToyRecipe, train_toy
from tlpo_ray.quickstart.world import World, toy_world

_LIBRARIES = ("torch", "transformers", "tokenizers", "babel")


def cached_toy_model(
    seed: int,
    progress: Progress,
    *,
    fresh: bool = False,
    recipe: ToyRecipe | None = None,
    world: Callable[[], World] = toy_world,
) -> Path:
    """Folder of the toy model for a seed; trains it if this code with these libraries has not done so yet.

    Args:
        seed: of weights and training data.
        progress: told about training; never called when the model is there.
        fresh: train it again.
        recipe: size and training; none takes the quickstart's.
        world: makes what it is trained on.
    """
    recipe = recipe or ToyRecipe()
    folder = _cache_root() / f"toy-{_fingerprint(seed, recipe, world.__name__)}"
    if fresh or not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            train_toy(world(), recipe, seed, partial, progress)
            _replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tlpo-ray"


def _fingerprint(seed: int, recipe: ToyRecipe, world: str) -> str:
    parts = [inspect.getsource(module) for module in (worlds, toy_model)]
    parts += [f"{library} {version(library)}" for library in _LIBRARIES]
    parts += [str(seed), repr(recipe), world]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _replace(partial: Path, folder: Path) -> None:
    """Put a finished folder in place; a reader sees the old one or the new one, never a part of one."""
    partial.chmod(0o755)  # mkdtemp's folders are for their owner only
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
        folder.rename(old / folder.name)
        shutil.rmtree(old)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster, with the same model
            raise
