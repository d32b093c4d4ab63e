"""What a learner rank does for `test_zero.py`: a process of its own, real DeepSpeed over gloo, no Ray.

Starting a rank takes longer than all it does, so each makes every experiment at every ZeRO stage.
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
from learner.policy import Policy
from learner.publish import Publisher
from learner.report import UpdateReport
from learner.worker import LearnerWorker, build_learner
from tests.clusters import free_port
from tests.tiny import CANDIDATES
from tlpo_ray.config.run import Dtype, LearnerConfig, LoraConfig, ModelConfig
from tlpo_ray.errors import NonFiniteError
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.flow.weights import WeightUpdate, from_wire

CONTEXT = tuple(range(10, 22))
STAGES = (0, 1, 2, 3)
ADAPTER = LoraConfig(rank=4, alpha=12)
Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all ranks of a group know."""

    model: Path
    config: Mapping[str, Any]
    ranks: int
    updates: tuple[list[CandidateGroup], ...]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """After all updates of a setting."""

    reports: list[UpdateReport]
    weights: Weights
    """Published; empty on ranks other than 0."""
    canary_logp: tuple[float, ...]
    kept: int
    """Bytes of weights, optimizer and reference that this rank holds, gradients left out."""
    computes_in: set[torch.dtype]
    """Dtypes of the policy's weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """Weights after the last update."""

    without_a_break: Weights
    from_a_checkpoint: Weights
    in_one_process: Weights
    state: Mapping[str, Any]
    exported: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled:
    """What bad numbers on the last rank did."""

    errors: Mapping[str, str]
    """Message of the `NonFiniteError` by what was bad."""
    before: Weights
    after: Weights
    """After a bad loss and a bad gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """Every experiment, by ZeRO stage."""

    trained: Mapping[int, Trained]
    recomputed: Mapping[int, Trained]
    """With activation checkpointing."""
    bfloat16: Mapping[int, Trained]
    adapter: Mapping[int, Trained]
    """Of an adapter, instead of all weights."""
    adapter_bfloat16: Mapping[int, Trained]
    continued: Mapping[int, Continued]
    continued_bfloat16: Mapping[int, Continued]
    spoiled: Mapping[int, Spoiled]
    whole: Mapping[int, list[int]]
    """Numbers that a rank held of every model as DeepSpeed began with it."""


Build = Callable[..., LearnerWorker]
"""Of (stage, dtype, changes to the configuration): this rank's worker, in the one process group of the test."""


def run_ranks(setting: Setting) -> list[RankResult]:
    """Every rank's result."""
    setting.folder.mkdir()
    multiprocessing.spawn(_rank, args=(setting, free_port()), nprocs=setting.ranks)
    return [torch.load(setting.folder / f"rank-{rank}.pt", weights_only=False) for rank in range(setting.ranks)]


def _rank(rank: int, setting: Setting, port: int) -> None:
    torch.set_num_threads(1)

    def build(stage: int, dtype: Dtype = "float32", **changes: Any) -> LearnerWorker:
        fixed = {"num_ranks": setting.ranks, "zero_stage": stage}
        config = LearnerConfig.model_validate({**setting.config, **fixed, **changes})
        model = ModelConfig(path=str(setting.model), dtype=dtype)
        return build_learner(model, config, seed=0, rank=rank, ranks=setting.ranks, port=port, deadline_s=120)

    workers, whole = {}, {}
    for stage in STAGES:
        with told_whole() as whole[stage]:
            workers[stage] = build(stage)
    result = RankResult(
        trained={stage: train(workers[stage], setting.updates) for stage in STAGES},
        recomputed={stage: train(build(stage, activation_checkpointing=True), setting.updates) for stage in (1, 3)},
        bfloat16={stage: train(build(stage, "bfloat16"), setting.updates) for stage in STAGES},
        adapter={stage: train(build(stage, lora=ADAPTER), setting.updates) for stage in STAGES},
        adapter_bfloat16={stage: train(build(stage, "bfloat16", lora=ADAPTER), setting.updates) for stage in STAGES},
        continued={stage: continue_run(build, stage, setting) for stage in STAGES},
        continued_bfloat16={stage: continue_run(build, stage, setting, "bfloat16") for stage in STAGES},
        spoiled={stage: spoil(workers[stage], stage, setting) for stage in STAGES},
        whole=whole,
    )
    torch.save(result, setting.folder / f"rank-{rank}.pt")


@contextmanager
def told_whole() -> Iterator[list[int]]:
    """How many numbers of a model lie on this rank, whenever DeepSpeed is given one."""
    import deepspeed

    found: list[int] = []
    initialize = deepspeed.initialize

    def told(*, model: nn.Module, **more: Any) -> Any:
        found.append(sum(parameter.numel() for parameter in model.parameters()))
        return initialize(model=model, **more)

    deepspeed.initialize = told
    try:
        yield found
    finally:
        deepspeed.initialize = initialize


def train(worker: LearnerWorker, updates: tuple[list[CandidateGroup], ...]) -> Trained:
    """Every update, publishing after each as a run does."""
    reports = []
    for number, groups in enumerate(updates):
        reports.append(worker.update(groups, number / len(updates)))
        update = publish(worker)
    canary = update.canary if update is not None else None
    policy: Any = worker._engine.policy()
    return Trained(
        reports=reports,
        weights=weights(update),
        canary_logp=canary.logp if canary is not None else (),
        kept=kept(worker) if isinstance(policy, nn.Module) else 0,  # the torch engine's is none
        computes_in={parameter.dtype for parameter in policy.parameters()} if isinstance(policy, nn.Module) else set(),
    )


def kept(worker: LearnerWorker) -> int:
    """`Trained.kept`: each storage counted once."""
    engine: Any = worker._engine
    optimizer = engine._torch_optimizer.state
    tensors = [*optimizer, *(one for state in optimizer.values() for one in state.values())]
    reference = worker._reference.args[0] if isinstance(worker._reference, partial) else nn.Module()
    for parameter in (*engine.policy().parameters(), *reference.parameters()):
        tensors.append(getattr(parameter, "ds_tensor", parameter))
    storages = [one.untyped_storage() for one in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def continue_run(build: Build, stage: int, setting: Setting, dtype: Dtype = "float32") -> Continued:
    root = setting.folder / f"stage-{stage}-{dtype}"
    *before, last = setting.updates
    worker = build(stage, dtype)
    for groups in before:
        worker.update(groups, 0.3)
        worker.save(root, {"progress": 0.3}, keep_last=1)
    worker.update(last, 0.6)
    other = build(stage, dtype)
    state = other.load(checkpoints(root)[-1])
    other.update(last, 0.6)
    other.export(root / "model")
    alone = build_learner(  # the world has shrunk to one process
        ModelConfig(path=str(setting.model), dtype=dtype),
        LearnerConfig.model_validate({**setting.config, "engine": "torch"}),
        seed=0,
    )
    alone.load(checkpoints(root)[-1])
    alone.update(last, 0.6)
    return Continued(
        without_a_break=weights(publish(worker)),
        from_a_checkpoint=weights(publish(other)),
        in_one_process=weights(publish(alone)),
        state=state,
        exported=root / "model",
    )


def spoil(worker: LearnerWorker, stage: int, setting: Setting) -> Spoiled:
    engine = worker._engine
    groups = setting.updates[0]
    bad = [replace(group, old_logp=np.full(CANDIDATES, np.nan, np.float32)) for group in groups[-1:]]

    def bad_gradient(policy: Policy) -> Tensor:
        logits: Tensor = policy(input_ids=torch.tensor([[1, 2, 3]])).logits
        zero = (logits * 0).abs().sum()
        return zero.sqrt() if engine.rank == engine.ranks - 1 else zero  # 0, but its derivative is 0 · ∞

    before = weights(publish(worker))
    errors = {
        "loss": error_of(lambda: worker.update([*groups[:-1], *bad], 0.0)),
        "gradient": error_of(lambda: engine.step([bad_gradient], 1e-3)),
    }
    after = weights(publish(worker))
    make_infinite(worker, stage)
    errors["weight"] = error_of(lambda: publish(worker))
    return Spoiled(errors=errors, before=before, after=after)


def make_infinite(worker: LearnerWorker, stage: int) -> None:
    """Put an infinity into one weight."""
    import deepspeed

    weight = worker._engine.policy().module.model.layers[1].mlp.up_proj.weight
    with torch.no_grad(), deepspeed.zero.GatheredParameters(weight, modifier_rank=0, enabled=stage == 3):
        weight[3, 5] = torch.inf


def publish(worker: LearnerWorker) -> WeightUpdate | None:
    return worker.publish(Publisher(100_000), CONTEXT)


def weights(update: WeightUpdate | None) -> Weights:
    """A copy of published weights; empty on ranks other than 0."""
    buckets = update.steps[-1].buckets if update is not None else ()
    return {name: from_wire(array).clone() for bucket in buckets for name, array in bucket}


def error_of(act: Callable[[], Any]) -> str:
    """The message of the `NonFiniteError` that comes of an act; empty if none does."""
    try:
        act()
    except NonFiniteError as error:
        return str(error)
    return ""
