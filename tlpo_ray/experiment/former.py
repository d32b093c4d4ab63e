"""Trials under the names that settings had in the release before, by which trials that it finished are recognised.

Goes away together with `config.renamed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlpo_ray.config.renamed import BASELINE_KEYS, RUN_KEYS

Settings = dict[str, Any]
_RENAMED = RUN_KEYS | BASELINE_KEYS
_FORMER = {new: old for old, new in _RENAMED.items()}
_PRESET_KEYS = [(old.split("."), new.split(".")) for old, new in _RENAMED.items()]


def former_parts(parts: Settings) -> Settings:
    """Return the parts of a trial's key with every renamed setting under its former name.

    Args:
        parts: Fields of the trial, with `target` and `preset` as nested settings.
    """
    former = dict(parts)
    target = former.pop("target")
    if target is not None:
        target = target | {"settings": _former_overrides(target["settings"])}
    preset = former["preset"]
    if preset.keys() == {"run", "baseline"}:
        preset = {name: _former_preset(settings) for name, settings in preset.items()}
    else:
        preset = _former_preset(preset)
    return former | {"subject": target, "settings": _former_overrides(former["settings"]), "preset": preset}


def _former_overrides(overrides: Sequence[str]) -> list[str]:
    split = [override.partition("=") for override in overrides]
    return [f"{_FORMER.get(key, key)}{equals}{value}" for key, equals, value in split]


def _former_preset(settings: Mapping[str, Any]) -> Settings:
    former = _copy(settings)
    for (old_section, old_key), path in _PRESET_KEYS:
        found, value = _pop(former, path)
        if found:
            former.setdefault(old_section, {})[old_key] = value
    return former


def _pop(settings: Settings, path: Sequence[str]) -> tuple[bool, object]:
    """Remove a nested setting, and every section that it leaves empty; return whether it existed, and its value."""
    key, *below = path
    if not below:
        return key in settings, settings.pop(key, None)
    section = settings.get(key)
    if not isinstance(section, dict):
        return False, None
    found, value = _pop(section, below)
    if found and not section:
        del settings[key]
    return found, value


def _copy(settings: Mapping[str, Any]) -> Settings:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
