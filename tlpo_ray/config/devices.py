"""Devices of this machine, as far as they can be known without importing torch."""

from __future__ import annotations

from pathlib import Path

NVIDIA_DRIVER = Path("/dev/nvidiactl")
"""File that exists on machines with a loaded NVIDIA driver, whether or not torch can use it."""
