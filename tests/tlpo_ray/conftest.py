"""Fixtures of the tests that run the whole loop."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detectors import registry
from tests.small_run import LOCAL, run, run_config, write_prompts
from tlpo_ray.run.loop import TrainSummary

MOODY = """
from pathlib import Path
import detectors

class Moody:
    version = "1"

    def __init__(self, language, english):
        self._real = detectors.language(language, english)

    def find(self, text, prefix="", final=True):
        if Path(__file__).with_name("fails").exists():
            raise RuntimeError("the service is down")
        return self._real.find(text, prefix, final)
"""


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a detector called moody, which raises an exception as long as the file that is returned exists."""
    plugin = tmp_path / "plugin"
    installed = plugin / "moody-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[tlpo_ray.detectors]\nmoody = moody_detector:Moody\n")
    (plugin / "moody_detector.py").write_text(MOODY)
    monkeypatch.syspath_prepend(plugin)
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)  # not as this process has seen them
    sys.modules.pop("moody_detector", None)
    fails = plugin / "fails"
    fails.touch()
    return fails


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    write_prompts(file)
    return file


@pytest.fixture(scope="session")
def local(tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary]:
    """Folder and summary of the run that nothing disturbed, in one process."""
    folder = tmp_path_factory.mktemp("runs") / "local"
    return folder, run(run_config(tiny_model, prompts, folder, **LOCAL))
