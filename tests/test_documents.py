"""The documents name files and functions that exist, keep the width, and the wheel is complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tlpo_ray.config.load import presets

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = ("tlpo_ray", "actors", "learner", "detectors", "deploy", "docs", "tests", "requirements", "findings")
WIDTH = 130
"""Characters per line of Markdown; a command in a code block may be longer."""
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def quoted(document: Path) -> list[str]:
    """Return all code spans of a document."""
    return re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_documents_exist(document: Path) -> None:
    paths = [text.split(":")[0] for text in quoted(document) if re.fullmatch(r"[\w./-]+(: [\w.]+)?", text)]
    ours = [path for path in paths if path.split("/")[0] in FOLDERS and "/" in path]
    assert [path for path in ours if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_documents_keep_the_width(document: Path) -> None:
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []


def test_functions_in_documents_exist() -> None:
    named = [re.fullmatch(r"([\w/]+\.py): ([\w.]+)", text) for document in DOCUMENTS for text in quoted(document)]
    functions = [(match[1], match[2].split(".")[-1]) for match in named if match]
    assert len(functions) > 20
    for file, name in functions:
        assert re.search(rf"\b(def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8")), f"{name} in {file}"


def test_top_level_folders_are_those_in_the_documents() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split("/")[0] for line in tracked.splitlines() if "/" in line} - {".ci"} == set(FOLDERS)


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"^{target}:.* ## \w", text, re.MULTILINE), f"make {target} has no explanation"


@pytest.mark.slow
def test_a_wheel_contains_all_packages_presets_and_types(tmp_path: Path) -> None:
    source = tmp_path / "source"  # building leaves files behind
    excluded = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=excluded)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("tlpo_ray-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for preset in presets():
        assert f"tlpo_ray/config/presets/{preset}.yaml" in names
    for file in ("tlpo_ray/py.typed", "actors/worker.py", "learner/worker.py", "detectors/data/words.txt"):
        assert file in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == set(FOLDERS[:4])
