"""Weights of a published model from a learner rank to two rollout actors on the real stack."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from actors.ray_shell import RolloutFleet
from tests.bench.compare import Measured, Row
from tests.tiny import random_groups
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.flow.records import encode
from tlpo_ray.quickstart.real_models import cached_real_model
from tlpo_ray.run.build import build_components
from tlpo_ray.run.components import Components

ROUNDS = 5
PAPER_LR = 5e-7
SYNCS = {
    "all weights, float32, object store": ("float32", "object_store", 0),
    "all weights, float32, broadcast by gloo": ("float32", "gloo", 0),
    "all weights, bfloat16, object store": ("bfloat16", "object_store", 0),
    "deltas of an update at the paper's rate, bfloat16, object store": ("bfloat16", "object_store", 100),
}
"""dtype, `flow.weight_transfer` and `flow.full_sync_interval` of what is measured."""


def to_actors(model: Path) -> Iterator[Measured]:
    """Measure export, transfer, loading and canary of SmolLM2, against copying the same bytes once."""
    published = cached_real_model("smollm2")
    for what, (dtype, transfer, interval) in SYNCS.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            config = _config(Path(folder), published, dtype, transfer, interval)
            with build_components(config, load_prompts(config.data, config.detector, config.seed)) as components:
                _sync(components, published, 0)  # allocates buffers
                ours = tuple(_sync(components, published, number + 1) for number in range(ROUNDS))
            copies = tuple(_copy_s(published, getattr(torch, dtype)) for _ in range(ROUNDS))
        yield Row(
            what=f"SmolLM2-135M-Instruct to two actors: {what}", ours="from the update's end until both have it",
            alternative="its bytes copied once", ours_s=ours, alternative_s=copies,
        )  # fmt: skip


def _config(folder: Path, model: Path, dtype: str, transfer: str, interval: int) -> RunConfig:
    prompts = folder / "prompts.jsonl"
    rows = [{"prompt": f"¿Cuántas son {number} y {number}?", "language": "es"} for number in range(8)]
    prompts.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return load_config(
        "quickstart-smollm2",
        [
            f"model.path={model}", f"model.dtype={dtype}", f"data.prompts={prompts}", f"folder={folder / 'run'}",
            f"flow.weight_transfer={transfer}", f"flow.full_sync_interval={interval}", "rollout.num_actors=2",
            f"learner.lr={PAPER_LR}", f"learner.lr_min={PAPER_LR}", "flow.canary_tolerance=0.5",
        ],
    )  # fmt: skip


def _sync(components: Components, model: Path, seed: int) -> float:
    """Make an update, and return the seconds from its end until every actor has loaded and checked the new weights."""
    learner, fleet = components.learner, components.fleet
    learner.begin_update(encode(random_groups(model, 4, seed=seed)), 0.5)
    while learner.poll_update(1.0) is None:
        pass
    began = time.perf_counter()
    assert isinstance(fleet, RolloutFleet)
    fleet.sync_weights(learner.export_weights(components.canary_context))
    fleet.wait_until_synced()
    return time.perf_counter() - began


def _copy_s(model: Path, dtype: torch.dtype) -> float:
    """Return the seconds in which the bytes of a model's weights are copied once, into memory that exists."""
    from safetensors.torch import load_file

    tensors = [tensor.to(dtype) for tensor in load_file(model / "model.safetensors").values()]
    copies = [torch.zeros_like(tensor) for tensor in tensors]
    began = time.perf_counter()
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor)
    return time.perf_counter() - began
