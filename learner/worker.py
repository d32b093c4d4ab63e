"""A learner rank: candidate groups in, p optimizer steps, a new policy version out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner import checkpoint
from learner.advantage import advantages
from learner.batch import GroupBatch, Stack, micro_batches, pad_contexts
from learner.engine import DTYPES, Loss, TorchEngine, TrainEngine
from learner.memory import require_room, whole_float32
from learner.objective import Objective, tlpo_objective
from learner.packing import pack_attention
from learner.policy import Policy, candidate_logp, load_model, recompute_activations, stack_of
from learner.publish import Publisher, weight_announcement
from learner.report import StepReport, UpdateReport, share, step_report
from learner.schedule import learning_rate
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.errors import ConfigError
from tlpo_ray.flow import vllm_sync
from tlpo_ray.flow.lora import merged, with_adapter, write_adapter
from tlpo_ray.flow.models import eos_set
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.flow.weights import Bucket, Rendezvous, WeightUpdate, to_wire

Reference = Callable[[GroupBatch], Tensor]


class LearnerWorker:
    """The plain learner of one rank; Ray binds it in `ray_shell.py`.

    Args:
        engine: holds policy and optimizer.
        reference: candidates' log-probabilities under the reference policy; None when β is 0.
        model: what the policy was loaded from.
        config: hyper-parameters.
        eos_ids: end-of-text tokens, watched in the candidate sets.
        stack: how the policy takes contexts.
    """

    def __init__(
        self,
        engine: TrainEngine,
        reference: Reference | None,
        model: ModelConfig,
        config: LearnerConfig,
        *,
        eos_ids: Collection[int],
        stack: Stack = pad_contexts,
    ) -> None:
        self._engine = engine
        self._reference = reference
        self._model = model
        self._config = config
        self._eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long, device=engine.device)
        self._stack = stack
        self._sender: Any = None
        self.version = 0
        """Policy version of the weights."""

    def update(self, groups: Sequence[CandidateGroup], progress: float) -> UpdateReport:
        """One update; every rank gets all groups and learns from its own shard.

        Args:
            progress: share of the run's prompts consumed, 0 to 1.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite.
        """
        began = time.monotonic()
        lr = learning_rate(self._config, progress)
        batches = self._shard(groups)
        sampled = batches.copy()
        reference = [self._reference_logp(batch) for batch in batches]
        steps = tuple(
            self._step(batches, reference, lr, repair=self._config.recompute_old_logprobs and iteration == 0)
            for iteration in range(self._config.num_iterations)
        )
        lag = sum(self.version - group.sampling_version for group in groups) / len(groups)
        self.version += 1
        weights = [batch.weight_B for batch in batches]
        return UpdateReport(
            version=self.version,
            groups=len(groups),
            lr=lr,
            steps=steps,
            eos_mass=share([self._eos_mass(batch) for batch in batches], weights),
            reward_mass=share([_reward_mass(batch) for batch in batches], weights),
            version_lag=lag,
            repaired=share([_moved(*pair) for pair in zip(sampled, batches, strict=True)], weights),
            seconds=time.monotonic() - began,
        )

    def publish(
        self, publisher: Publisher, canary_context: Sequence[int], put: Callable[[Bucket], Any] = lambda bucket: bucket
    ) -> WeightUpdate | None:
        """The current policy version (see `Publisher.update`); every rank must call it."""
        return publisher.update(self._engine, self.version, canary_context, put)

    def announce(self, canary_context: Sequence[int]) -> WeightUpdate:
        """The current policy version without its weights, for `broadcast`; every rank must call it."""
        return weight_announcement(self._engine, self.version, canary_context)

    def open_broadcast(self, rendezvous: Rendezvous) -> None:
        """Meet the receivers; every rank must call it, rank 0 waits for them."""
        if self._sender is not None:
            self._sender.shutdown()
        engine = self._engine
        self._sender = vllm_sync.sender(rendezvous, engine.rank, engine.metas(), engine.tensors)

    def broadcast(self) -> None:
        """Send the weights to everyone who has joined; every rank must call it."""
        assert self._sender is not None, "open_broadcast comes first"
        self._sender.send_weights()

    def save(self, root: Path, state: Mapping[str, Any], keep_last: int) -> int:
        """Write a checkpoint of this version below `root`; policy version of the oldest that is kept. Every rank must
        call it.

        Args:
            state: anything that JSON can hold.
            keep_last: checkpoints to keep, this one among them.

        Raises:
            ResourceError: the folder cannot be written.
        """
        engine = self._engine
        with checkpoint.writing(f"a checkpoint below {root}"):
            if engine.rank == 0:
                checkpoint.begin(root, self.version)
            tensors = engine.state()
            if engine.rank == 0:
                checkpoint.write_tensors(checkpoint.partial(root, self.version), tensors)
                state = {**state, "version": self.version, "layout": engine.layout}
                checkpoint.commit(root, self.version, state, keep_last)
            else:
                deque(tensors, maxlen=0)  # the collectives that rank 0 gathers with
            engine.barrier()
        return checkpoint.version_of(checkpoint.checkpoints(root)[0])

    def restore(self, root: Path, until: int) -> int:
        """Load the newest whole checkpoint of at most version `until` below `root`; its version, 0 if there is none.

        For one rank alone; in a group the driver chooses the folder, and every rank `load`s it.

        Raises:
            UserError: it is one of other learner settings.
        """
        folder = checkpoint.newest(root, self._engine.layout, until)
        if folder is not None:
            self.load(folder)
        return self.version

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint folder; the state that was saved with it. Every rank must call it.

        Raises:
            UserError: there is no checkpoint, or one of other learner settings.
        """
        state = checkpoint.read_state(folder, self._engine.layout)
        with checkpoint.Tensors(folder) as tensors:
            self._engine.restore(tensors.read)
        self.version = int(state["version"])
        return state

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder, and its adapter as one beside it; every rank must call it.

        Raises:
            ResourceError: the folder cannot be written.
        """
        trained = tensors = [(name, tensor.cpu().clone()) for name, tensor in self._engine.tensors()]
        if (lora := self._config.lora) is not None:
            everything = ((name, tensor.cpu()) for name, tensor in self._engine.tensors(frozen=True))
            tensors = list(merged(everything, dict(trained), lora))
        if self._engine.rank == 0:
            with checkpoint.writing(f"the model to {folder}"):
                checkpoint.export_model(tensors, self._model, folder)
                if lora is not None:
                    on_wire = [(name, to_wire(tensor)) for name, tensor in trained]
                    write_adapter(on_wire, lora, folder.with_name("adapter"))

    def _shard(self, groups: Sequence[CandidateGroup]) -> list[GroupBatch]:
        engine = self._engine
        size = self._config.micro_batch_size
        batches = micro_batches(groups, rank=engine.rank, ranks=engine.ranks, size=size, stack=self._stack)
        return [batch.to(engine.device) for batch in batches]

    def _reference_logp(self, batch: GroupBatch) -> Tensor | None:
        if self._reference is None:
            return None
        with torch.no_grad():
            return self._reference(batch)

    def _step(
        self, batches: list[GroupBatch], reference: Sequence[Tensor | None], lr: float, *, repair: bool
    ) -> StepReport:
        """One optimizer step; with `repair` it puts this policy's probabilities into the batches as π_old."""
        objectives: list[Objective] = []

        def loss_of(number: int) -> Loss:
            def loss(policy: Policy) -> Tensor:
                logp_BK = candidate_logp(policy, batches[number])
                if repair:
                    batches[number] = replace(batches[number], old_logp_BK=logp_BK.detach())
                objective = self._objective(logp_BK, batches[number], reference[number])
                objectives.append(objective)
                return -(objective.per_group_B * batches[number].weight_B).sum()

            return loss

        losses = [loss_of(number) for number in range(len(batches))]
        norm = self._engine.step(losses, lr)
        return step_report(batches, objectives, norm)

    def _objective(self, logp_BK: Tensor, batch: GroupBatch, ref_logp_BK: Tensor | None) -> Objective:
        config = self._config
        advantage_BK = advantages(batch.old_logp_BK, batch.rewards_BK, config.advantage)
        return tlpo_objective(
            logp_BK, batch.old_logp_BK, ref_logp_BK, advantage_BK, config.clip_low, config.clip_high, config.beta
        )

    def _eos_mass(self, batch: GroupBatch) -> Tensor:
        is_eos_BK = torch.isin(batch.candidate_ids_BK, self._eos_ids)
        return (batch.old_logp_BK.exp() * is_eos_BK).sum(dim=1)


def _moved(sampled: GroupBatch, repaired: GroupBatch) -> Tensor:
    """[B] mean |Δ log-probability| of a candidate, weighted by π_old."""
    difference_BK = (repaired.old_logp_BK - sampled.old_logp_BK).abs()
    return (sampled.old_logp_BK.softmax(dim=1) * difference_BK).sum(dim=1)


def _reward_mass(batch: GroupBatch) -> Tensor:
    return (batch.old_logp_BK.softmax(dim=1) * (batch.rewards_BK > 0)).sum(dim=1)


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
        seed: of weights that the model folder lacks, so that they are alike on every rank.
        address, port: where rank 0 listens (DeepSpeed only).
        deadline_s: for a rank that waits for the others, seconds.

    Raises:
        ModelError: the model cannot be loaded.
        ConfigError: several ranks were asked of the torch engine.
        ResourceError: it is too large for the device.
    """
    if config.engine == "torch" and ranks > 1:
        raise ConfigError(
            f"learner.engine torch has one rank, learner.num_ranks is {ranks}: use learner.engine deepspeed"
        )
    torch.manual_seed(seed)
    policy = load_model(model, torch.float32 if whole_float32(config) else DTYPES[model.dtype], trainable=True)
    pack_attention(policy)
    if config.lora is not None:
        policy = with_adapter(policy, config.lora)
    if config.activation_checkpointing:
        recompute_activations(policy)
    require_room(policy, model, config)
    engine: TrainEngine
    if config.engine == "torch":
        engine = TorchEngine(policy, model, config)
    else:
        from learner.deepspeed_engine import DeepSpeedEngine, join_process_group

        join_process_group(rank, ranks, address, port, deadline_s)
        engine = DeepSpeedEngine(policy, model, config, rank=rank, ranks=ranks)
    reference = _reference(policy, engine, model, config) if config.beta else None
    generation: Any = policy.generation_config
    eos_ids = eos_set(generation.eos_token_id)
    return LearnerWorker(engine, reference, model, config, eos_ids=eos_ids, stack=stack_of(policy))


def _reference(policy: Any, engine: TrainEngine, model: ModelConfig, config: LearnerConfig) -> Reference:
    """The policy as it was before training: without its adapter, or as a copy of its own."""
    if config.lora is not None:

        def without_adapter(batch: GroupBatch) -> Tensor:
            with policy.disable_adapter():
                return candidate_logp(engine.policy(), batch)

        return without_adapter
    copy = load_model(model, DTYPES[model.dtype], trainable=False)
    pack_attention(copy)
    return partial(candidate_logp, engine.frozen(copy))
