"""A program outside this repository that uses the installed packages sees their types."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """\
import detectors
import tlpo_ray
from actors.engine import TokenEngine
from learner.engine import TrainEngine

config = tlpo_ray.load_config("quickstart", ["model.path=model", "data.prompts=prompts.jsonl"])
result = tlpo_ray.train(config)
reveal_type(result)
reveal_type(result.model)
reveal_type(detectors.find("안녕 мир", detectors.language("ko")))
"""
SEEN = ("tlpo_ray.run.result.RunResult", "pathlib.Path", "detectors.finding.Finding | None")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has this project installed as a wheel, and everything else from the one that runs."""
    folder = tmp_path_factory.mktemp("installed")
    source, environment = folder / "source", folder / "venv"
    unneeded = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unneeded)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = next((environment / "lib").glob("python*/site-packages"))
    install = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(packages), str(source)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "python"


@pytest.mark.slow
def test_a_program_from_outside_sees_types(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    revealed = [line.partition('"')[2].rstrip('"') for line in done.stdout.splitlines() if "Revealed type" in line]
    assert done.returncode == 0, done.stdout
    assert revealed == list(SEEN)
