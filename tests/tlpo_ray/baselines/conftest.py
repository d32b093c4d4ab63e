from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def curt_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with many ends of text, so that its random answers end after a few tokens."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "curt")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"eos_token_id": [2, *range(3, 400, 4)]}))
    return folder
