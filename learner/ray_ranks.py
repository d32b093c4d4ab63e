"""The processes of a learner group in Ray: one actor per rank, in one placement group."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from learner.process import LearnerProcess
from tlpo_ray.cluster.actors import answering_progress
from tlpo_ray.cluster.placement import bundle, place_together
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


def reserve_ranks(num_ranks: int, cluster: ClusterConfig) -> PlacementGroup:
    """Request room for all ranks at once, on as few nodes as possible: their collectives are frequent."""
    resources = bundle(cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank, cluster.learner_resource)
    return place_together(resources, num_ranks, cluster.learner_labels, cluster.label_wait_s)


def create_ranks(placement: PlacementGroup, num_ranks: int, cluster: ClusterConfig, incarnation: int) -> list[Any]:
    """Create a Ray actor per rank in its bundle of the placement group."""
    cpus, gpus = cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank
    # Set by the process itself, not by Ray's runtime_env: this way Ray uses a process that is already running.
    environment = COMMON_ENV | ({} if gpus else CPU_ENV)
    return [
        LearnerRank.options(
            name=f"tlpo-learner-{rank}.{incarnation}",
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank),
        ).remote(put=ray.put, environment=environment)  # passed in, so that learner/process.py does not import ray
        for rank in range(num_ranks)
    ]
