"""Configuration keys that have a new name. The old names are read for one more release, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

RUN_KEYS = {
    "rollout.actors": "rollout.num_actors",
    "rollout.candidates": "rollout.num_candidates",
    "rollout.lookahead": "rollout.lookahead_tokens",
    "rollout.lot": "rollout.lease_size",
    "learner.ranks": "learner.num_ranks",
    "learner.iterations": "learner.num_iterations",
    "learner.micro_batch": "learner.micro_batch_size",
    "learner.repair_staleness": "learner.recompute_old_logprobs",
    "flow.delta_refresh": "flow.full_sync_interval",
    "flow.focus": "data.curriculum.min_probability",
}
BASELINE_KEYS = {
    "trainer.batch": "trainer.batch_size",
    "trainer.micro_batch": "trainer.micro_batch_size",
    "trainer.generations": "trainer.num_generations",
}
PLAN_KEYS = {"subject": "target", "findings": "analyses"}
"""Dotted key of earlier releases → its name now: of runs, of baselines, of experiments."""

_warned: set[str] = set()
"""Old keys that this process has warned about: a run reads its configuration more than once."""


def with_current_names(settings: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return nested settings with every old key replaced by its current name; one warning names the old keys in them.

    Settings of one source (a file, or one `key=value`) go in, so that a later source still wins over an earlier one
    whichever name either uses. A new name that the same source also sets wins over the old one.

    Args:
        settings: Settings nested by section.
        renamed: Old keys of this kind of configuration, each with its name now.
    """
    current = dict(settings)
    news: list[str] = []
    for old, new in renamed.items():
        exists, value = _pop(current, old.split("."))
        if not exists:
            continue
        if old == "rollout.lookahead" and isinstance(value, str):  # not a number of tokens: the setting of today
            _set_default(current, old.split("."), value)
            continue
        if old not in _warned:
            _warned.add(old)
            news.append(f"{old} is now {new}")
        if old == "flow.focus" and value is None:  # no curriculum at all, not one without a probability
            new = "data.curriculum"
        _set_default(current, new.split("."), value)
    if news:
        logger.warning("renamed settings, of which the old names are read for this release only: %s", ", ".join(news))
    return current


def _pop(settings: dict[str, Any], path: list[str]) -> tuple[bool, Any]:
    """Remove the value at a path; returns whether there was one, and the value. Copies what it changes."""
    key, *below = path
    if key not in settings:
        return False, None
    if not below:
        return True, settings.pop(key)
    if not isinstance(settings[key], Mapping):
        return False, None
    section = dict(settings[key])
    found, value = _pop(section, below)
    if found:
        settings[key] = section
        if not section:
            del settings[key]
    return found, value


def _set_default(settings: dict[str, Any], path: list[str], value: Any) -> None:
    """Set the value at a path unless there is one. Copies what it changes."""
    key, *below = path
    if not below:
        settings.setdefault(key, value)
    elif isinstance(section := settings.get(key, {}), Mapping):
        settings[key] = dict(section)
        _set_default(settings[key], below, value)
