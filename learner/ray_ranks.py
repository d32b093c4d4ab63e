"""The processes of a learner group in Ray: one actor per rank, in one placement group."""

from __future__ import annotations

from typing import Any

import ray

from learner.process import LearnerProcess
from tlpo_ray.cluster.actors import answering_progress
from tlpo_ray.cluster.placement import PlacementPool, bundle
from tlpo_ray.config.cluster import ClusterConfig

CPU_ENV = {
    "DS_ACCELERATOR": "cpu",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TORCHDYNAMO_DISABLE": "1",  # else DeepSpeed, which imports an optimizer that no run uses, loads torch's compiler
}
"""Environment of ranks without a GPU."""
COMMON_ENV = {"TOKENIZERS_PARALLELISM": "false", "DS_LOG_LEVEL": "error"}
"""Environment of all ranks."""

LearnerRank = answering_progress(LearnerProcess)


class RankPlacement:
    """Room for all ranks at once, on as few nodes as possible: their collectives are frequent.

    Args:
        num_ranks: Number of ranks.
        cluster: What each rank requests.
    """

    KEY = "the learner group"

    def __init__(self, num_ranks: int, cluster: ClusterConfig) -> None:
        self._num_ranks, self._cluster = num_ranks, cluster
        self._pool = PlacementPool(cluster.learner_labels, cluster.label_wait_s, num_ranks)
        self._resources = bundle(cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank, cluster.learner_resource)

    def is_ready(self, timeout_s: float) -> bool:
        """Return whether the cluster has granted the room, within `timeout_s` seconds; request it the first time."""
        return self._pool.is_ready(self.KEY, self._resources, timeout_s)

    def create_ranks(self, incarnation: int) -> list[Any]:
        """Create a Ray actor per rank in the room, which is ready."""
        cpus, gpus = self._cluster.cpus_per_learner_rank, self._cluster.gpus_per_learner_rank
        # Set by the process itself, not by Ray's runtime_env: this way Ray uses a process that is already running.
        environment = COMMON_ENV | ({} if gpus else CPU_ENV)
        return [
            LearnerRank.options(
                name=f"tlpo-learner-{rank}.{incarnation}",
                num_cpus=cpus,
                num_gpus=gpus,
                scheduling_strategy=self._pool.strategy(self.KEY, rank),
            ).remote(put=ray.put, environment=environment)  # passed in, so that learner/process.py does not import ray
            for rank in range(self._num_ranks)
        ]

    def release(self) -> None:
        """Return the room to the cluster."""
        self._pool.release(self.KEY)
