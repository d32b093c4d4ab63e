"""A learner rank: candidate groups in, p optimizer steps, a new policy version out.

It knows nothing of Ray: `process.py` and `ray_shell.py` run one per learner rank, `stack: local` calls one directly.
Shape suffixes: B groups, K candidates per group (N in the paper).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from learner import checkpoint
from learner.advantage import AdvantageForm
from learner.batch import Collate, GroupBatch, micro_batches, pad_contexts
from learner.checkpoint_writer import CheckpointWriter, SavedCheckpoint
from learner.engine import DTYPES, SINGLE_RANK, Loss, RankInfo, TrainEngine, policy_dtype, trainer_class
from learner.memory import check_fits
from learner.objective import Objective, tlpo_objective
from learner.packing import pack_attention
from learner.policy import Policy, candidate_logp, collate_fn, enable_activation_checkpointing, load_model
from learner.report import StepReport, UpdateReport, share_of_mean, step_report
from learner.schedule import learning_rate
from learner.weight_export import WeightExporter, announce_weights, travelling
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import ADVANTAGES, load_plugin
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import ConfigError
from tlpo_ray.files import disk_errors
from tlpo_ray.flow.file_layout import PLAIN, FileLayout, file_layout
from tlpo_ray.flow.lora import linear_layers, merge_adapter, with_adapter, write_adapter
from tlpo_ray.flow.models import model_without_weights
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.flow.tokenizer import end_of_text_ids
from tlpo_ray.flow.weights import BroadcastSender, Bucket, Rendezvous, WeightUpdate, to_wire

S = TypeVar("S")
T = TypeVar("T")

Reference = Callable[[GroupBatch], Tensor]
"""Returns the [B, K] natural-log probabilities of the candidates under the reference policy."""


class LearnerWorker:
    """One learner rank.

    Args:
        engine: Holds policy and optimizer.
        reference: The reference policy; None when β is 0.
        model: What the policy was loaded from.
        config: Hyper-parameters.
        eos_ids: End-of-text tokens; their share of the candidate sets is reported.
        collate: Puts contexts of different lengths into one forward pass: `pack_contexts` for a policy that takes them
            packed into one row, else `pad_contexts`.
        layout: How the model's files have its weights.
    """

    def __init__(
        self,
        engine: TrainEngine,
        reference: Reference | None,
        model: ModelConfig,
        config: LearnerConfig,
        *,
        eos_ids: Collection[int],
        collate: Collate = pad_contexts,
        layout: FileLayout = PLAIN,
    ) -> None:
        self.engine = engine
        self.reference = reference
        self._model = model
        self._config = config
        self._advantage: AdvantageForm = load_plugin(ADVANTAGES, config.advantage)
        self._eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long, device=engine.device)
        self._collate = collate
        self._layout = layout
        self._sender: BroadcastSender | None = None
        self._writer = CheckpointWriter()
        self.clock = WorkClock()
        """Noted with every forward and backward pass of a micro-batch, optimizer step, and tensor that is moved."""
        self.version = 0
        """Policy version of the weights."""

    def update(self, groups: Sequence[CandidateGroup], progress: float) -> UpdateReport:
        """Make one update: p optimizer steps on the same groups. Every rank must call it.

        Args:
            groups: All groups of the update, at least one, the same on every rank; each rank learns from its own shard.
            progress: Share of the run's prompts that have their outcome, of those not skipped at load, 0 to 1; drives
                the learning rate.

        Returns:
            This rank's report. Its means over the groups are partial sums, which `merge_reports` adds up.

        Raises:
            NonFiniteError: The loss or the gradient is NaN or infinite.
        """
        began = time.monotonic()
        lr = learning_rate(self._config, progress)
        batches = self._shard(groups)
        sampled = batches.copy()  # the first step may replace the batches' old log-probabilities
        # Once per update, not per iteration: the reference policy does not change.
        reference = [self.reference_logp(batch) for batch in batches]
        steps = tuple(
            self._step(batches, reference, lr, recompute_old=self._config.recompute_old_logprobs and iteration == 0)
            for iteration in range(self._config.num_iterations)
        )
        lag = sum(self.version - group.sampling_version for group in groups) / len(groups)
        self.version += 1
        weights = [batch.weight_B for batch in batches]
        shifts = [_old_logprob_shift(*pair) for pair in zip(sampled, batches, strict=True)]
        return UpdateReport(
            version=self.version,
            groups=len(groups),
            lr=lr,
            steps=steps,
            eos_mass=share_of_mean([self._eos_mass(batch) for batch in batches], weights),
            reward_mass=share_of_mean([_reward_mass(batch) for batch in batches], weights),
            policy_lag=lag,
            old_logprob_shift=share_of_mean(shifts, weights),
            seconds=time.monotonic() - began,
        )

    def export_weights(
        self,
        exporter: WeightExporter,
        canary_context: Sequence[int],
        put: Callable[[Bucket], Any] = lambda bucket: bucket,
    ) -> WeightUpdate | None:
        """Return the current policy version on rank 0, None on the others; every rank must call it.

        Args:
            exporter: The same one every time: it remembers what it sent last.
            canary_context: Token ids after which log-probabilities are compared; empty for no canary.
            put: Turns a bucket into a reference to it.

        Raises:
            NonFiniteError: A weight is NaN or infinite.
        """
        return exporter.export(self.engine, self.version, canary_context, self._noting(put), self._layout)

    def announce_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        """Return the current policy version without its weights, which `broadcast` sends; every rank must call it.

        Raises:
            NonFiniteError: A weight is NaN or infinite.
        """
        return announce_weights(self.engine, self.version, canary_context, self._layout)

    def open_broadcast(self, rendezvous: Rendezvous) -> None:
        """Open a broadcast group, in place of the one before; every rank must call it, rank 0 waits for the receivers.

        Args:
            rendezvous: Address and size of the group.
        """
        from tlpo_ray.flow.vllm_transfer import broadcast_sender

        if self._sender is not None:
            self._sender.shutdown()
        metas = self._layout.metas_in_files(self.engine.tensor_metas())
        tensors = partial(travelling, self.engine, self._layout)
        self._sender = broadcast_sender(rendezvous, self.engine.rank, metas, tensors)

    def broadcast(self) -> None:
        """Send the weights to all receivers that have joined; every rank must call it."""
        assert self._sender is not None, "open_broadcast comes first"
        self._sender.send_weights()

    def begin_save(self, root: Path, keep_last: int) -> None:
        """Begin a checkpoint of the current version; every rank must call it, and may then continue to learn.

        The state is copied here; rank 0 writes the copy meanwhile, and removes the oldest checkpoint at last.

        Args:
            root: Folder of all checkpoints of a run; on storage that all ranks share.
            keep_last: Number of checkpoints to keep, this one included.

        Raises:
            ResourceError: The folder cannot be written.
        """
        engine, tensors = self.engine, self._noted(self.engine.state_tensors())
        if engine.rank == 0:
            self._writer.begin(root, self.version, engine.layout, tensors, keep_last, self.clock.note)
        else:
            deque(tensors, maxlen=0)  # takes part in the collectives that rank 0 gathers with

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        """Return the checkpoint that has become complete since the last call, on rank 0; None if there is none.

        Args:
            wait: Whether to wait for one that is being written.

        Raises:
            ResourceError: It cannot be written.
        """
        return self._writer.finish(self.clock.note) if wait else self._writer.poll()

    def restore(self, root: Path, until: int) -> int:
        """Load the newest intact checkpoint of at most version `until` below `root`, if there is one.

        For a single rank. In a group the driver chooses the folder and every rank calls `load`: ranks that choose on
        their own could choose differently.

        Returns:
            Policy version of the weights: the checkpoint's, or the current version, unchanged, if there is none.

        Raises:
            UserError: The checkpoint was written with other learner settings.
        """
        folder = checkpoint.newest(root, self.engine.layout, until)
        return self.version if folder is None else self.load(folder)

    def load(self, folder: Path) -> int:
        """Load a checkpoint folder and return its policy version; every rank must call it.

        Raises:
            UserError: The folder does not hold a checkpoint, or one written with other learner settings.
        """
        version = checkpoint.read_version(folder, self.engine.layout)
        with checkpoint.TensorReader(folder) as tensors:
            self.engine.load_state(self._noting(tensors.read))
        self.version = version
        return version

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder; every rank must call it.

        An adapter is merged into the model, and also written as a folder `adapter` beside it.

        Raises:
            ResourceError: The folder cannot be written.
        """
        trained = tensors = [(name, tensor.cpu().clone()) for name, tensor in self._noted(self.engine.tensors())]
        if (lora := self._config.lora) is not None:
            frozen_too = self._noted(self.engine.tensors(include_frozen=True))
            all_weights = ((name, tensor.cpu()) for name, tensor in frozen_too)
            layers = linear_layers(model_without_weights(self._model))
            tensors = list(merge_adapter(all_weights, dict(trained), lora, layers))
        if self.engine.rank == 0:
            with disk_errors(f"the model to {folder}"):
                checkpoint.export_model(tensors, self._model, folder, self._layout)
                if lora is not None:
                    on_wire = [(name, to_wire(tensor)) for name, tensor in trained]
                    write_adapter(on_wire, lora, folder.with_name("adapter"))

    def reference_logp(self, batch: GroupBatch) -> Tensor | None:
        """Return [B, K] log-probabilities of the candidates under the reference policy; None without one."""
        if self.reference is None:
            return None
        with torch.no_grad():
            logp_BK = self.reference(batch)
        self.clock.note()
        return logp_BK

    def objective(self, logp_BK: Tensor, batch: GroupBatch, ref_logp_BK: Tensor | None) -> Objective:
        """Return TLPO's objective of a micro-batch, with this run's advantage form and hyper-parameters.

        Args:
            logp_BK: [B, K] natural-log probabilities of the candidates under the policy; gradients flow through them.
            batch: The micro-batch.
            ref_logp_BK: [B, K] `reference_logp` of the batch; None if β is 0.

        Returns:
            The objective, to be maximized: [B] values per group, and their [B, K] parts.
        """
        config = self._config
        advantage_BK = self._advantage(batch.old_logp_BK, batch.rewards_BK)
        return tlpo_objective(
            logp_BK, batch.old_logp_BK, ref_logp_BK, advantage_BK, config.clip_low, config.clip_high, config.beta
        )

    def _shard(self, groups: Sequence[CandidateGroup]) -> list[GroupBatch]:
        engine = self.engine
        size = self._config.micro_batch_size
        batches = micro_batches(groups, rank=engine.rank, num_ranks=engine.num_ranks, size=size, collate=self._collate)
        return [batch.to(engine.device) for batch in batches]

    def _step(
        self, batches: list[GroupBatch], reference: Sequence[Tensor | None], lr: float, *, recompute_old: bool
    ) -> StepReport:
        """Make one optimizer step; with `recompute_old`, put the policy's own log-probabilities into the batches as
        those of π_old first: the forward pass of the first step computes them anyway."""
        objectives: list[Objective] = []

        def loss_of(number: int) -> Loss:
            def loss(policy: Policy) -> Tensor:
                self.clock.note()  # the backward pass of the micro-batch before is done
                logp_BK = candidate_logp(policy, batches[number])
                self.clock.note()
                if recompute_old:
                    batches[number] = replace(batches[number], old_logp_BK=logp_BK.detach())
                objective = self.objective(logp_BK, batches[number], reference[number])
                objectives.append(objective)
                return -(objective.per_group_B * batches[number].weight_B).sum()

            return loss

        losses = [loss_of(number) for number in range(len(batches))]
        norm = self.engine.step(losses, lr)
        self.clock.note()
        return step_report(batches, objectives, norm)

    def _noting(self, act: Callable[[S], T]) -> Callable[[S], T]:
        """Return a function that does the same, and notes each call as progress."""

        def noting(argument: S) -> T:
            self.clock.note()
            return act(argument)

        return noting

    def _noted(self, items: Iterator[T]) -> Iterator[T]:
        """Yield the items, and note each as progress."""
        for item in items:
            self.clock.note()
            yield item

    def _eos_mass(self, batch: GroupBatch) -> Tensor:
        """Return [B] probability under π_old, over the complete vocabulary, of the candidates that end the text."""
        is_eos_BK = torch.isin(batch.candidate_ids_BK, self._eos_ids)
        return (batch.old_logp_BK.exp() * is_eos_BK).sum(dim=1)


def _old_logprob_shift(sampled: GroupBatch, recomputed: GroupBatch) -> Tensor:
    """Return [B] mean |Δ log-probability| of a candidate in nats, weighted by π_old as it was sampled.

    The weights of a group's K candidates sum to 1.
    """
    difference_BK = (recomputed.old_logp_BK - sampled.old_logp_BK).abs()
    return (sampled.old_logp_BK.softmax(dim=1) * difference_BK).sum(dim=1)


def _reward_mass(batch: GroupBatch) -> Tensor:
    """Return [B] share of π_old, normalized over each group's K candidates, on those with reward above 0."""
    return (batch.old_logp_BK.softmax(dim=1) * (batch.rewards_BK > 0)).sum(dim=1)


def build_learner(
    model: ModelConfig, config: LearnerConfig, *, seed: int, rank_info: RankInfo = SINGLE_RANK
) -> LearnerWorker:
    """Load policy and reference, and create the training engine of one rank.

    Args:
        model: What to train.
        config: Hyper-parameters; names trainer and advantage form.
        seed: Seed of weights that the model folder lacks, so that they are the same on every rank.
        rank_info: This rank and its group.

    Raises:
        ModelError: The model cannot be loaded.
        ConfigError: The trainer cannot be imported, or has one rank and several are requested.
        ResourceError: The model is too large for the device.
    """
    trainer = trainer_class(config)
    if rank_info.num_ranks > 1 and not trainer.is_distributed:
        raise ConfigError(
            f"learner.engine {config.engine} has one rank, learner.num_ranks is {rank_info.num_ranks}: "
            f"set learner.engine=deepspeed or learner.num_ranks=1"
        )
    # Ranks load on their own: without a common seed, weights that the folder lacks would differ between them.
    torch.manual_seed(seed)
    policy = load_model(model, policy_dtype(model, config), trainable=True)
    layout = file_layout(policy, model, adapter=config.lora is not None)  # of the plain model, and not of a shard
    pack_attention(policy)
    if config.lora is not None:
        # After packing, which inspects and changes the plain model; before the engine, which trains what is trainable.
        policy = with_adapter(policy, config.lora)
    if config.activation_checkpointing:
        enable_activation_checkpointing(policy)
    check_fits(policy, model, config)
    engine = trainer(policy, model, config, rank_info)
    reference = _make_reference(policy, engine, model, config) if config.beta else None
    eos_ids, collate = end_of_text_ids(model), collate_fn(policy)
    return LearnerWorker(engine, reference, model, config, eos_ids=eos_ids, collate=collate, layout=layout)


def _make_reference(policy: Any, engine: TrainEngine, model: ModelConfig, config: LearnerConfig) -> Reference:
    """Return the policy as it was before training: without its adapter, or as a frozen copy."""
    if config.lora is not None:

        def without_adapter(batch: GroupBatch) -> Tensor:
            with policy.disable_adapter():
                return candidate_logp(engine.policy(), batch)

        return without_adapter
    copy = load_model(model, DTYPES[model.dtype], trainable=False)
    pack_attention(copy)
    return partial(candidate_logp, engine.freeze(copy))
