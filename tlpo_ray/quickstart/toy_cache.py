"""Trained toy models on disk, so that only the first quickstart of an installation trains one."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tlpo_ray.quickstart import toy_model
from tlpo_ray.quickstart import world as worlds
from tlpo_ray.quickstart.cache import cache_root, replacing
from tlpo_ray.quickstart.toy_model import OnProgress, ToyRecipe, train_toy
from tlpo_ray.quickstart.world import World, toy_world

_LIBRARIES = ("torch", "transformers", "tokenizers", "babel")


def cached_toy_model(
    seed: int,
    on_progress: OnProgress,
    *,
    fresh: bool = False,
    recipe: ToyRecipe | None = None,
    world: Callable[[], World] = toy_world,
) -> Path:
    """Return the folder of the toy model for a seed; train it unless this code and these libraries already have.

    Args:
        seed: Seed of the weights and the training data.
        on_progress: Called during training; never called if the model exists.
        fresh: Train the model again.
        recipe: Size and training; None is the quickstart's.
        world: Returns the world that the model is trained on.
    """
    recipe = recipe or ToyRecipe()
    folder = cache_root() / f"toy-{_fingerprint(seed, recipe, world)}"
    if fresh or not folder.exists():
        with replacing(folder) as partial:
            train_toy(world(), recipe, seed, partial, on_progress)
    return folder


def _fingerprint(seed: int, recipe: ToyRecipe, world: Callable[[], World]) -> str:
    """Return a digest of everything that decides the weights: the code itself, the libraries, seed and recipe."""
    modules = dict.fromkeys((worlds, toy_model, inspect.getmodule(world) or worlds))
    parts = [inspect.getsource(module) for module in modules]
    parts += [f"{library} {version(library)}" for library in _LIBRARIES]
    parts += [str(seed), repr(recipe), world.__name__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
