"""`make setup` with uv and with pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.before import ROOT
from tests.bench.compare import Figure, Row


def installers(model: Path) -> Iterator[Row | Figure]:
    """Set up new virtual environments, one after the other: minutes with pip, so each is measured once."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        cold_s, packages = _set_up(folder, "uv")
        pip_s, same = _set_up(folder, "pip")
        warm_s, _ = _set_up(folder, "uv")
    for state, ours_s in (("empty", cold_s), ("filled", warm_s)):
        yield Row(
            what=f"make setup, {len(packages)} packages",
            ours=f"uv, {state} cache",
            alternative="pip",
            ours_s=(ours_s,),
            alternative_s=(pip_s,),
        )
    different = {line for line in packages ^ same if not line.startswith("uv==")}
    yield Figure(what="packages that differ between the two, besides uv", value=str(len(different)))


def _set_up(folder: Path, installer: str) -> tuple[float, set[str]]:
    """Return the seconds that an installer takes, and what is then installed."""
    place = folder / "venv"
    caches = {"UV_CACHE_DIR": str(folder / "uv-cache"), "PIP_CACHE_DIR": str(folder / "pip-cache")}
    environment = {**os.environ, **caches}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    command = ["make", "setup", f"VENV={place}", f"INSTALLER={installer}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    frozen = subprocess.run(
        [place / "bin/python", "-m", "pip", "freeze"], check=True, stdout=subprocess.PIPE, text=True
    )
    shutil.rmtree(place)
    return seconds, set(frozen.stdout.splitlines())
