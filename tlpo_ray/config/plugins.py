"""Parts of a run that are chosen by name: rollout engines, trainers and advantage forms, ours and other packages'.

Each kind is an entry-point group. Ours are declared in this project's `pyproject.toml` like anybody else's, so adding
one takes an entry point and a class or function that keeps the contract beside which the kind is documented:
`actors.engine.TokenEngine`, `learner.engine.TrainEngine`, `learner.advantage.AdvantageForm`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tlpo_ray.errors import ConfigError, first_line
from tlpo_ray.loading import heavy_imports

ROLLOUT_ENGINES = "tlpo_ray.rollout_engines"
TRAINERS = "tlpo_ray.trainers"
ADVANTAGES = "tlpo_ray.advantages"
SETTINGS = {
    ROLLOUT_ENGINES: "rollout.engine",
    TRAINERS: "learner.engine",
    ADVANTAGES: "learner.advantage",
}
"""The setting that names a plugin of each group."""


@cache  # reads the metadata of every installed package
def plugins(group: str) -> Mapping[str, EntryPoint]:
    """Return the installed plugins of a group by name; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=group)}


def check_plugin(group: str, name: str) -> str:
    """Return a plugin's name if it is installed.

    Raises:
        ValueError: It is not; the message lists those that are.
    """
    known = sorted(plugins(group))
    if not known:
        raise ValueError(f"none of the group {group} is installed; the installation is out of date: pip install again")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"expected one of {', '.join(known)}{hint}")
    return name


def load_plugin(group: str, name: str) -> Any:
    """Import a plugin and return it.

    Raises:
        ConfigError: It is not installed, or importing it fails.
    """
    try:
        entry = plugins(group)[check_plugin(group, name)]
    except ValueError as error:
        raise ConfigError(f"{SETTINGS[group]} is {name!r}: {error}") from error
    try:
        with heavy_imports():
            return entry.load()
    except Exception as error:  # of a package we know nothing about
        raise ConfigError(
            f"{SETTINGS[group]} {name} is {entry.value}, which cannot be imported: {first_line(error)}"
        ) from error
