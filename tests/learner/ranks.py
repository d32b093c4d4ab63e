"""Learner ranks for `test_zero.py`: one process each, real DeepSpeed over gloo, no Ray.

Starting a rank takes longer than everything it does, so each rank runs every experiment at every ZeRO stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, multiprocessing, nn

from learner.checkpoint import checkpoints
from learner.engine import RankInfo
from learner.policy import Policy
from learner.report import UpdateReport
from learner.weight_export import WeightExporter
from learner.worker import LearnerWorker, build_learner
from tests.clusters import free_port
from tests.learner.learners import save
from tests.tiny import CANDIDATES
from tlpo_ray.config.model import Dtype, LoraConfig, ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.flow.weights import WeightUpdate, from_wire

CONTEXT = tuple(range(10, 22))
STAGES = (0, 1, 2, 3)
ADAPTER = LoraConfig(rank=4, alpha=12)
Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all ranks of a group are given."""

    model: Path
    config: Mapping[str, Any]
    num_ranks: int
    updates: tuple[list[CandidateGroup], ...]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Results after all updates of a setting."""

    reports: list[UpdateReport]
    weights: Weights
    """Exported weights; empty on ranks other than 0."""
    canary_logp: tuple[float, ...]
    static_bytes: int
    """Bytes of weights, optimizer state and reference that this rank holds, gradients left out."""
    policy_dtypes: set[torch.dtype]
    """Dtypes of the policy's weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Weights after the last update."""

    uninterrupted: Weights
    from_checkpoint: Weights
    in_one_process: Weights
    version: int
    """Policy version of the checkpoint."""
    exported: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """What happened after non-finite numbers on the last rank."""

    errors: Mapping[str, str]
    """Message of the `NonFiniteError` by what was not finite."""
    before: Weights
    after: Weights
    """Weights after a bad loss and a bad gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """Results of every experiment by ZeRO stage."""

    trained: Mapping[int, Trained]
    checkpointed: Mapping[int, Trained]
    """Trained with activation checkpointing."""
    bfloat16: Mapping[int, Trained]
    adapter: Mapping[int, Trained]
    """An adapter trained instead of all weights."""
    adapter_bfloat16: Mapping[int, Trained]
    resumed: Mapping[int, Resumed]
    resumed_bfloat16: Mapping[int, Resumed]
    non_finite: Mapping[int, NonFinite]
    full_sizes: Mapping[int, list[int]]
    """Numbers of each model that the rank held in full when DeepSpeed was initialized with it."""


Build = Callable[..., LearnerWorker]
"""Builds this rank's worker from stage, dtype and changes to the configuration, in the test's one process group."""


def run_ranks(setting: Setting) -> list[RankResult]:
    """Run all ranks of a setting and return their results."""
    setting.folder.mkdir()
    multiprocessing.spawn(_rank, args=(setting, free_port()), nprocs=setting.num_ranks)
    return [torch.load(setting.folder / f"rank-{rank}.pt", weights_only=False) for rank in range(setting.num_ranks)]


def _rank(rank: int, setting: Setting, port: int) -> None:
    torch.set_num_threads(1)

    def build(stage: int, dtype: Dtype = "float32", **changes: Any) -> LearnerWorker:
        fixed = {"num_ranks": setting.num_ranks, "zero_stage": stage}
        config = LearnerConfig.model_validate({**setting.config, **fixed, **changes})
        model = ModelConfig(path=str(setting.model), dtype=dtype)
        rank_info = RankInfo(rank=rank, num_ranks=setting.num_ranks, port=port, deadline_s=120)
        return build_learner(model, config, seed=0, rank_info=rank_info)

    workers, full_sizes = {}, {}
    for stage in STAGES:
        with recorded_sizes() as full_sizes[stage]:
            workers[stage] = build(stage)
    result = RankResult(
        trained={stage: train(workers[stage], setting.updates) for stage in STAGES},
        checkpointed={stage: train(build(stage, activation_checkpointing=True), setting.updates) for stage in (1, 3)},
        bfloat16={stage: train(build(stage, "bfloat16"), setting.updates) for stage in STAGES},
        adapter={stage: train(build(stage, lora=ADAPTER), setting.updates) for stage in STAGES},
        adapter_bfloat16={stage: train(build(stage, "bfloat16", lora=ADAPTER), setting.updates) for stage in STAGES},
        resumed={stage: resume(build, stage, setting) for stage in STAGES},
        resumed_bfloat16={stage: resume(build, stage, setting, "bfloat16") for stage in STAGES},
        non_finite={stage: feed_non_finite(workers[stage], stage, setting) for stage in STAGES},
        full_sizes=full_sizes,
    )
    torch.save(result, setting.folder / f"rank-{rank}.pt")


@contextmanager
def recorded_sizes() -> Iterator[list[int]]:
    """Record how many numbers of a model this rank holds in full, whenever DeepSpeed is initialized with a model."""
    import deepspeed

    sizes: list[int] = []
    initialize = deepspeed.initialize

    def recording(*, model: nn.Module, **arguments: Any) -> Any:
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
        return initialize(model=model, **arguments)

    deepspeed.initialize = recording
    try:
        yield sizes
    finally:
        deepspeed.initialize = initialize


def train(worker: LearnerWorker, updates: tuple[list[CandidateGroup], ...]) -> Trained:
    """Make every update and export the weights after each, as a run does."""
    reports = []
    for number, groups in enumerate(updates):
        reports.append(worker.update(groups, number / len(updates)))
        update = export(worker)
    canary = update.canary if update is not None else None
    policy: Any = worker.engine.policy()
    return Trained(
        reports=reports,
        weights=weights(update),
        canary_logp=canary.logp if canary is not None else (),
        static_bytes=static_bytes(worker) if isinstance(policy, nn.Module) else 0,  # the torch engine's is a function
        policy_dtypes={parameter.dtype for parameter in policy.parameters()}
        if isinstance(policy, nn.Module)
        else set(),
    )


def static_bytes(worker: LearnerWorker) -> int:
    """Return `Trained.static_bytes`, each storage counted once."""
    engine: Any = worker.engine
    optimizer = engine._torch_optimizer.state
    tensors = [*optimizer, *(tensor for state in optimizer.values() for tensor in state.values())]
    reference = worker.reference.args[0] if isinstance(worker.reference, partial) else nn.Module()
    for parameter in (*engine.policy().parameters(), *reference.parameters()):
        tensors.append(getattr(parameter, "ds_tensor", parameter))
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def resume(build: Build, stage: int, setting: Setting, dtype: Dtype = "float32") -> Resumed:
    """Make the last update in a run without a break, after loading a checkpoint, and the same in one process."""
    root = setting.folder / f"stage-{stage}-{dtype}"
    *before, last = setting.updates
    worker = build(stage, dtype)
    for groups in before:
        worker.update(groups, 0.3)
        save(worker, root, keep_last=1)
    worker.update(last, 0.6)
    resumed = build(stage, dtype)
    version = resumed.load(checkpoints(root)[-1])
    resumed.update(last, 0.6)
    resumed.export(root / "model")
    alone = build_learner(  # another trainer and another number of ranks
        ModelConfig(path=str(setting.model), dtype=dtype),
        LearnerConfig.model_validate({**setting.config, "engine": "torch"}),
        seed=0,
    )
    alone.load(checkpoints(root)[-1])
    alone.update(last, 0.6)
    return Resumed(
        uninterrupted=weights(export(worker)),
        from_checkpoint=weights(export(resumed)),
        in_one_process=weights(export(alone)),
        version=version,
        exported=root / "model",
    )


def feed_non_finite(worker: LearnerWorker, stage: int, setting: Setting) -> NonFinite:
    """Make loss, gradient and a weight non-finite on the last rank."""
    engine = worker.engine
    groups = setting.updates[0]
    bad = [replace(group, old_logp=np.full(CANDIDATES, np.nan, np.float32)) for group in groups[-1:]]

    def bad_gradient(policy: Policy) -> Tensor:
        logits: Tensor = policy(input_ids=torch.tensor([[1, 2, 3]])).logits
        zero = (logits * 0).abs().sum()
        return zero.sqrt() if engine.rank == engine.num_ranks - 1 else zero  # 0, but its derivative is 0 · ∞

    before = weights(export(worker))
    errors = {
        "loss": error_of(lambda: worker.update([*groups[:-1], *bad], 0.0)),
        "gradient": error_of(lambda: engine.step([bad_gradient], 1e-3)),
    }
    after = weights(export(worker))
    make_infinite(worker, stage)
    errors["weight"] = error_of(lambda: export(worker))
    return NonFinite(errors=errors, before=before, after=after)


def make_infinite(worker: LearnerWorker, stage: int) -> None:
    """Put an infinity into one weight."""
    import deepspeed

    weight = worker.engine.policy().module.model.layers[1].mlp.up_proj.weight  # type: ignore[attr-defined]
    with torch.no_grad(), deepspeed.zero.GatheredParameters(weight, modifier_rank=0, enabled=stage == 3):
        weight[3, 5] = torch.inf


def export(worker: LearnerWorker) -> WeightUpdate | None:
    return worker.export_weights(WeightExporter(100_000), CONTEXT)


def weights(update: WeightUpdate | None) -> Weights:
    """Return a copy of exported weights; empty on ranks other than 0."""
    buckets = update.deltas[-1].buckets if update is not None else ()
    return {name: from_wire(array).clone() for bucket in buckets for name, array in bucket}


def error_of(act: Callable[[], Any]) -> str:
    """Return the message of the `NonFiniteError` that `act` raises; empty if it raises none."""
    try:
        act()
    except NonFiniteError as error:
        return str(error)
    return ""
