"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Before torch and transformers are imported: no network, no threads that fight over the cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# A token of these tests' own, or Ray would write one into the home folder.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Several test processes, each with a Ray of its own: `tests.small_run.process_ids` finds those that this one started.
os.environ["TLPO_TEST_PROCESS"] = str(os.getpid())

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("tlpo", deadline=None)
settings.load_profile("tlpo")


class RayApart(LoadScopeScheduling):  # type: ignore[misc]
    """Files with tests that start Ray go to one process: they look for processes by title. All else runs beside it."""

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if _starts_ray(nodeid.partition("::")[0]) else str(nodeid)


@cache
def _starts_ray(file: str) -> bool:
    return "pytest.mark.ray" in Path(file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayApart:
    return RayApart(config, log)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Qwen3 with tied embeddings."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tied")


@pytest.fixture(scope="session")
def tiny_untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Qwen3 with a language-model head of its own."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "untied", tied=False)
