"""A learner rank's process: a `LearnerWorker` behind Ray's wire; groups arrive as Arrow, weights leave by reference.

A plain class: `ray_shell.py` makes it a Ray actor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.cluster.addresses import free_address
from tlpo_ray.cluster.hangs import ProcessInfo, register_process
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import MIB, FlowConfig, LearnerConfig
from tlpo_ray.flow.records import decode
from tlpo_ray.flow.weights import Bucket, Rendezvous, WeightUpdate
from tlpo_ray.loading import heavy_imports

if TYPE_CHECKING:
    from learner.checkpoint_writer import SavedCheckpoint
    from learner.report import UpdateReport
    from learner.worker import LearnerWorker


class LearnerProcess:
    """One learner rank. Methods hold collectives, so call them on all ranks at once; except for `address`, `register`,
    `poll_save`, and `progress`, which has a thread of its own and is served while another method runs.

    torch and DeepSpeed are imported by `setup`, and not with this module: the process says where it is before that, and
    its environment is set in time.

    Args:
        put: Stores a bucket of weights and returns a reference to it (`ray.put`).
        environment: Environment variables that these libraries read when they are imported.
    """

    def __init__(self, put: Callable[[Bucket], Any], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._put = put
        self._worker: LearnerWorker | None = None

    def address(self) -> tuple[str, int]:
        """Return an address at which other processes can reach this one: host and a free port."""
        return free_address()

    def register(self, run_folder: str | None, name: str) -> ProcessInfo:
        """Keep this process's output and stacks in the run's folder from now on, and return its location.

        Args:
            run_folder: The run's folder; None keeps neither.
            name: Name of this process.
        """
        return register_process(run_folder, name)

    def setup(
        self,
        model: ModelConfig,
        config: LearnerConfig,
        flow: FlowConfig,
        seed: int,
        rank: int,
        address: tuple[str, int],
        deadline_s: float,
        *,
        colocated: bool,
    ) -> int:
        """Load policy and reference, join the process group, and return the rank.

        Apart from `__init__`, so that an error reaches the driver as it was raised.

        Args:
            model: What to train.
            config: Hyper-parameters.
            flow: Size of a bucket, and how often weights are sent in full.
            seed: Seed of the run.
            rank: Rank of this process, from 0.
            address: Host and free port of rank 0 (`address`).
            deadline_s: How long this rank waits for the others in a collective, in seconds.
            colocated: Whether a rollout actor shares the GPU.

        Raises:
            UserError: The model cannot be loaded, or is too large for the device.
        """
        with heavy_imports():
            from learner.engine import RankInfo
            from learner.weight_export import WeightExporter
            from learner.worker import build_learner

        host, port = address
        rank_info = RankInfo(rank=rank, num_ranks=config.num_ranks, address=host, port=port, deadline_s=deadline_s)
        self._worker = build_learner(model, config.for_dtype(model.dtype), seed=seed, rank_info=rank_info)
        self._exporter = WeightExporter(flow.bucket_mib * MIB, flow.full_sync_interval)
        self._colocated = colocated
        return rank

    def update(self, payload: bytes, progress: float) -> UpdateReport:
        """Make one update and return the report of this rank's shard.

        Args:
            payload: All groups of the update as an Arrow stream.
            progress: Share of the run's prompts that have their outcome, of those not skipped at load, 0 to 1.
        """
        report = self.worker.update(decode(payload), progress)
        import torch

        if self._colocated and torch.cuda.is_available():
            torch.cuda.empty_cache()  # frees what activations took for the rollout actor on the same GPU
        return report

    def progress(self) -> float:
        """Return the time since this rank's work last advanced, in seconds."""
        return self.worker.clock.age_s

    def export_weights(self, canary_context: Sequence[int]) -> WeightUpdate | None:
        """Return the current policy version on rank 0, with its buckets as references into the object store."""
        return self.worker.export_weights(self._exporter, canary_context, put=self._put)

    def announce_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        """Return the current policy version without its weights, which `broadcast` sends."""
        return self.worker.announce_weights(canary_context)

    def open_broadcast(self, rendezvous: Rendezvous) -> None:
        """Open a broadcast group; returns on rank 0 once all receivers have joined."""
        self.worker.open_broadcast(rendezvous)

    def broadcast(self) -> None:
        """Send the weights to all receivers."""
        self.worker.broadcast()

    def begin_save(self, root: Path, keep_last: int) -> None:
        """Begin a checkpoint: returns when the rank may continue to learn."""
        self.worker.begin_save(root, keep_last)

    def poll_save(self, *, wait: bool) -> SavedCheckpoint | None:
        """Return the checkpoint that has become complete since the last call; holds no collective."""
        return self.worker.poll_save(wait=wait)

    def load(self, folder: Path) -> int:
        """Load a checkpoint and return its policy version."""
        return self.worker.load(folder)

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder; rank 0 writes."""
        self.worker.export(folder)

    @property
    def worker(self) -> LearnerWorker:
        """The worker, which `setup` makes."""
        assert self._worker is not None, "setup comes first"
        return self._worker
