"""Environment variables of libraries that every command sets, unless the user has set them."""

from __future__ import annotations

import os

from tlpo_ray.config.devices import NVIDIA_DRIVER

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Keep libraries from printing."""
PATIENT = {"OMP_WAIT_POLICY": "passive"}
"""Makes idle threads of torch sleep: spinning, they take cores from a run's processes."""


def set_defaults() -> None:
    """Set these variables, before the libraries that read them are imported."""
    for name, value in (QUIET | PATIENT).items():
        os.environ.setdefault(name, value)
    if not NVIDIA_DRIVER.exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, which transformers imports, warns of it
