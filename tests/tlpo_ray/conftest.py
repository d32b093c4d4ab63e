"""Fixtures of the tests that run the whole loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_run import LOCAL, run, run_config, write_prompts
from tlpo_ray.run.loop import TrainSummary


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
