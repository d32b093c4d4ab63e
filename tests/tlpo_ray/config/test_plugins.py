"""Plugins that are missing, misspelt or broken are reported in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from tlpo_ray.config import plugins
from tlpo_ray.config.load import load_config
from tlpo_ray.errors import ConfigError

NEEDED = ("model.path=m", "data.prompts=p")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[EntryPoint]]]:
    """Entry points by group, in place of those that are installed."""
    groups: dict[str, list[EntryPoint]] = {}
    monkeypatch.setattr(plugins, "entry_points", lambda group: groups.get(group, []))
    plugins.plugins.cache_clear()
    yield groups
    plugins.plugins.cache_clear()


def test_a_misspelt_plugin_is_refused_with_those_that_exist() -> None:
    message = "learner.advantage is 'tlp': expected one of grpo, tlpo, unweighted; did you mean tlpo?"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config("quickstart", [*NEEDED, "learner.advantage=tlp"])


def test_an_installation_without_our_entry_points_says_so(installed: dict[str, list[EntryPoint]]) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.engine is 'vllm': .* the installation is out of date"):
        load_config("quickstart", NEEDED)


def test_a_plugin_that_cannot_be_imported_is_reported_in_one_line(installed: dict[str, list[EntryPoint]]) -> None:
    group = plugins.ROLLOUT_ENGINES
    installed[group] = [EntryPoint(name="mine", value="no_such_module:Engine", group=group)]
    with pytest.raises(ConfigError, match=r"^rollout\.engine mine is no_such_module:Engine, which cannot be"):
        plugins.load_plugin(group, "mine")
    with pytest.raises(ConfigError, match=r"rollout\.engine is 'other': expected one of mine"):
        plugins.load_plugin(group, "other")
