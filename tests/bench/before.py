"""An earlier commit of this project, beside this one."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tomllib
from pathlib import Path

BEFORE = "b23ca43"
"""Commit that is compared with."""
ROOT = Path(__file__).parents[2]


def checkout(commit: str, folder: Path) -> Path:
    """Write a commit's files into a folder, with the metadata by which Python finds its plugins there."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"tlpo_ray-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tlpo-ray\nVersion: {project['version']}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())])
        for group, entries in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n\n".join(groups))
    return folder
