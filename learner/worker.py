"""A learner rank: candidate groups in, p optimizer steps, a new policy version out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from learner import checkpoint
from learner.advantage import advantages
from learner.batch import GroupBatch, micro_batches
from learner.engine import DTYPES, TorchEngine, TrainEngine
from learner.objective import Objective, tlpo_objective
from learner.policy import candidate_logp, load_model
from learner.publish import weight_update
from learner.schedule import learning_rate
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.flow.weights import Bucket, WeightUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimizer step, over this rank's shard."""

    loss: float
    surrogate: float
    kl: float
    clip_fraction: float
    ratio_deviation: float
    """Largest |ratio - 1|."""
    grad_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """One update: p optimizer steps on the same groups."""

    version: int
    """Policy version that it made."""
    groups: int
    lr: float
    steps: tuple[StepReport, ...]
    eos_mass: float
    """π_old of end-of-text tokens within the candidate sets, mean."""
    reward_mass: float
    """Share of the candidate sets' π_old on candidates with reward above 0, mean."""
    version_lag: float
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Scalars for the metrics log; what is unknown (a gradient norm under ZeRO-0) is left out."""
        last = asdict(self.steps[-1]) | {"loss": sum(step.loss for step in self.steps) / len(self.steps)}
        own = {name: getattr(self, name) for name in ("lr", "eos_mass", "reward_mass", "version_lag")}
        return {name: value for name, value in (own | last).items() if math.isfinite(value)}


class LearnerWorker:
    """The plain learner of one rank; Ray binds it in `ray_shell.py`.

    Args:
        engine: holds policy and optimizer.
        reference: the frozen reference policy; None when β is 0.
        model: what the policy was loaded from.
        config: hyper-parameters.
        pad_id: any token id; padding is masked.
        eos_ids: end-of-text tokens, watched in the candidate sets.
    """

    def __init__(
        self,
        engine: TrainEngine,
        reference: nn.Module | None,
        model: ModelConfig,
        config: LearnerConfig,
        *,
        pad_id: int,
        eos_ids: frozenset[int],
    ) -> None:
        self._engine = engine
        self._reference = reference
        self._model = model
        self._config = config
        self._pad_id = pad_id
        self._eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long)
        self.version = 0

    def update(self, groups: Sequence[CandidateGroup], progress: float) -> UpdateReport:
        """One update; every rank gets all groups and learns from its own shard.

        Args:
            progress: share of the run's prompts consumed, 0 to 1.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite.
        """
        began = time.monotonic()
        lr = learning_rate(self._config, progress)
        batches = [batch.to(self._engine.device) for batch in self._shard(groups)]
        reference = [self._reference_logp(batch) for batch in batches]
        steps = tuple(self._step(batches, reference, lr) for _ in range(self._config.iterations))
        lag = sum(self.version - group.sampling_version for group in groups) / len(groups)
        self.version += 1
        return UpdateReport(
            version=self.version,
            groups=len(groups),
            lr=lr,
            steps=steps,
            eos_mass=_weighted(batches, self._eos_mass),
            reward_mass=_weighted(batches, _reward_mass),
            version_lag=lag,
            seconds=time.monotonic() - began,
        )

    def publish(
        self, canary_context: Sequence[int], max_bytes: int, put: Callable[[Bucket], Any] = lambda bucket: bucket
    ) -> WeightUpdate | None:
        """The current policy version; None on ranks other than 0, which must call it too."""
        return weight_update(self._engine, self.version, canary_context, max_bytes, put)

    def save(self, root: Path, state: dict[str, Any], keep_last: int) -> None:
        """Write a checkpoint of this version below `root`."""
        state = state | {"version": self.version, "torch_rng": torch.get_rng_state().tolist()}
        folder = checkpoint.partial(root, self.version)
        folder.mkdir(parents=True, exist_ok=True)
        self._engine.save(folder, state)
        self._engine.barrier()
        if self._engine.rank == 0:
            shown = {name: value for name, value in state.items() if name != "torch_rng"}
            checkpoint.commit(root, self.version, shown, keep_last)

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint folder; the state that was saved with it."""
        state = self._engine.load(folder)
        self.version = int(state["version"])
        torch.set_rng_state(torch.tensor(state.pop("torch_rng"), dtype=torch.uint8))
        return state

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder; every rank must call it."""
        tensors = dict(self._engine.tensors())
        if self._engine.rank == 0:
            checkpoint.export_model(tensors.items(), self._model, folder)

    def _shard(self, groups: Sequence[CandidateGroup]) -> list[GroupBatch]:
        engine, size = self._engine, self._config.micro_batch
        return micro_batches(groups, rank=engine.rank, ranks=engine.ranks, size=size, pad_id=self._pad_id)

    def _reference_logp(self, batch: GroupBatch) -> Tensor | None:
        if self._reference is None:
            return None
        with torch.no_grad():
            return candidate_logp(self._reference, batch)

    def _step(self, batches: list[GroupBatch], reference: list[Tensor | None], lr: float) -> StepReport:
        seen: list[tuple[GroupBatch, Objective]] = []

        def loss(model: Callable[..., Any], batch: GroupBatch, number: int) -> Tensor:
            objective = self._objective(candidate_logp(model, batch), batch, reference[number])
            seen.append((batch, objective))
            return -(objective.per_group_B * batch.weight_B).sum()

        norm = self._engine.step(batches, loss, lr)
        return _step_report(seen[: len(batches)], norm)

    def _objective(self, logp_BK: Tensor, batch: GroupBatch, ref_logp_BK: Tensor | None) -> Objective:
        config = self._config
        advantage_BK = advantages(batch.old_logp_BK, batch.rewards_BK, config.advantage)
        return tlpo_objective(
            logp_BK, batch.old_logp_BK, ref_logp_BK, advantage_BK, config.clip_low, config.clip_high, config.beta
        )

    def _eos_mass(self, batch: GroupBatch) -> Tensor:
        is_eos_BK = torch.isin(batch.candidate_ids_BK, self._eos_ids.to(batch.candidate_ids_BK.device))
        return (batch.old_logp_BK.exp() * is_eos_BK).sum(dim=1)


def _reward_mass(batch: GroupBatch) -> Tensor:
    return (batch.old_logp_BK.softmax(dim=1) * (batch.rewards_BK > 0)).sum(dim=1)


def _weighted(batches: Sequence[GroupBatch], value_B: Callable[[GroupBatch], Tensor]) -> float:
    """Mean of a value per group over this rank's real groups."""
    total = sum(float((value_B(batch) * batch.weight_B).sum()) for batch in batches)
    weight = sum(float(batch.weight_B.sum()) for batch in batches)
    return total / weight if weight else 0.0


def _step_report(seen: Sequence[tuple[GroupBatch, Objective]], norm: float) -> StepReport:
    batches = [batch for batch, _ in seen]
    by_batch = {id(batch): objective for batch, objective in seen}

    def mean(value_BK: Callable[[Objective], Tensor]) -> float:
        return _weighted(batches, lambda batch: value_BK(by_batch[id(batch)]).detach().float().mean(dim=1))

    surrogate, kl = mean(lambda o: o.surrogate_BK), mean(lambda o: o.kl_BK)
    return StepReport(
        loss=-_weighted(batches, lambda batch: by_batch[id(batch)].per_group_B.detach()),
        surrogate=surrogate,
        kl=kl,
        clip_fraction=mean(lambda o: o.clipped_BK),
        ratio_deviation=max(float((o.ratio_BK.detach() - 1).abs().max()) for _, o in seen),
        grad_norm=norm,
    )


def build_learner(
    model: ModelConfig,
    config: LearnerConfig,
    *,
    seed: int,
    rank: int = 0,
    ranks: int = 1,
    address: str = "127.0.0.1",
    port: int = 0,
    deadline_s: float = 600.0,
) -> LearnerWorker:
    """Load policy and reference and set up one rank's engine.

    Args:
        address, port: where rank 0 listens (DeepSpeed only).
        deadline_s: for a rank that waits for the others, seconds.

    Raises:
        ModelError: the model cannot be loaded.
    """
    torch.manual_seed(seed)
    policy = load_model(model, torch.float32, trainable=True)
    if config.activation_checkpointing:
        policy.gradient_checkpointing_enable()  # type: ignore[operator]
        policy.train()
    engine: TrainEngine
    if config.engine == "torch":
        engine = TorchEngine(policy, model, config)
    else:
        from learner.deepspeed_engine import DeepSpeedEngine, join_process_group

        join_process_group(rank, ranks, address, port, deadline_s)
        engine = DeepSpeedEngine(policy, model, config, rank=rank, ranks=ranks)
    reference = load_model(model, DTYPES[model.dtype], trainable=False).to(engine.device) if config.beta else None
    return LearnerWorker(engine, reference, model, config, pad_id=_pad_id(policy), eos_ids=frozenset(_eos_ids(policy)))


def _pad_id(policy: nn.Module) -> int:
    pad: Any = getattr(policy.config, "pad_token_id", None)
    return int(pad) if pad is not None else 0


def _eos_ids(policy: nn.Module) -> Sequence[int]:
    generation: Any = getattr(policy, "generation_config", None)
    eos = generation.eos_token_id if generation is not None else getattr(policy.config, "eos_token_id", None)
    if eos is None:
        return ()
    return eos if isinstance(eos, list | tuple) else (eos,)
