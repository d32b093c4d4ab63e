"""Weights from the learner to a rollout actor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from learner.weight_export import WeightExporter
from learner.worker import LearnerWorker, build_learner
from tests.bench.compare import Figure, Measured, compared
from tests.tiny import random_groups
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig, RolloutConfig
from tlpo_ray.flow.delta import WeightMirror
from tlpo_ray.quickstart.toy_cache import cached_toy_model

PAPER_LR, TOY_LR = 5e-7, 2e-4
UPDATES, FULL_SYNC_INTERVAL = 6, 100


def deltas(model: Path) -> Iterator[Measured]:
    """Measure the bytes of weight deltas, and the time to export and load a policy version."""
    toy = cached_toy_model(0, lambda share, loss: None)
    for dtype, lr in (("bfloat16", PAPER_LR), ("bfloat16", TOY_LR), ("float32", TOY_LR)):
        worker, mirror = make_learner(toy, dtype, lr), WeightMirror()
        exporter = WeightExporter(4 << 20, FULL_SYNC_INTERVAL)
        sizes = []
        for version in range(UPDATES):
            if version:
                worker.update(random_groups(toy, 8, seed=version), 0.5)
            update = worker.export_weights(exporter, ())
            assert update is not None
            mirror.apply(update.deltas[-1:])
            sizes.append(update.deltas[-1].nbytes)
        full = worker.export_weights(WeightExporter(1 << 30), ())
        assert full is not None
        equal = all(
            (name, array.tobytes()) == (expected_name, expected.tobytes())
            for (name, array), (expected_name, expected) in zip(mirror.bucket(), full.deltas[0].buckets[0], strict=True)
        )
        share = sum(sizes[1:]) / (UPDATES - 1) / sizes[0]
        yield Figure(
            what=f"deltas of an update, {dtype}, learning rate {lr:g}",
            value=f"{share:.1%} of all weights' bytes; weights equal bit by bit after {UPDATES - 1}: {equal}",
        )
    worker = make_learner(toy, "bfloat16", PAPER_LR)
    config = ModelConfig(path=str(toy), dtype="bfloat16", max_context=64)
    engine = TransformersEngine(config, RolloutConfig(engine="transformers", max_new_tokens=8), EngineOptions())
    exporter, parameters = WeightExporter(4 << 20), dict(engine._model.named_parameters())

    def ours() -> None:
        update = worker.export_weights(exporter, ())
        assert update is not None
        engine.load_weights(update.deltas[0].buckets, 1)

    def alternative() -> None:
        for name, tensor in worker.engine.tensors():
            parameters[name].data.copy_(tensor)

    yield compared(
        "one policy version in one process, the toy model",
        ("packed buckets through the wire form, all weights checked for NaN", ours),
        ("each parameter copied in place", alternative),
    )


def make_learner(folder: Path, dtype: str, lr: float) -> LearnerWorker:
    config = LearnerConfig(engine="torch", lr=lr, lr_min=min(lr, 5e-8), warmup=0.0, beta=0.0)
    return build_learner(ModelConfig(path=str(folder), dtype=dtype), config, seed=0)  # type: ignore[arg-type]
