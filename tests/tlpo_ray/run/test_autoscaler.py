"""A run on a cluster that is too small for it, with Ray's autoscaler; its nodes are more raylets on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from tests.clusters import free_port, head, wait_until
from tests.small_run import PROMPTS, run, run_config
from tlpo_ray.cluster.connect import connect
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.errors import ResourceError
from tlpo_ray.progress import TrainingProgress

pytestmark = pytest.mark.ray

STORE = 150 << 20
NODES = {
    "rollout": {
        "resources": {"CPU": 1, "roll": 1, "object_store_memory": STORE},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 3,
    },
    "ray.head.default": {"resources": {"CPU": 2, "learn": 1}, "node_config": {}, "max_workers": 0},
}


def autoscaling(port: int) -> dict[str, Any]:
    """Return a file for `--autoscaling-config`: Ray's own defaults for this provider are not in its wheel."""
    return {
        "cluster_name": "fake",
        "max_workers": 3,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "disable_node_updaters": True,
            "use_node_id_as_ip": True,  # all nodes have this machine's address
        },
        "available_node_types": NODES,
        "head_node_type": "ray.head.default",
        "file_mounts_sync_continuously": False,
        **{mapping: {} for mapping in ("auth", "docker", "file_mounts")},
        **{
            name: []
            for name in (
                *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands"),
                *("setup_commands", "head_setup_commands", "worker_setup_commands"),
                *("head_start_ray_commands", "worker_start_ray_commands"),
            )
        },
    }


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Start a head with room for a learner; nodes for rollouts come on demand."""
    port = free_port()
    file = tmp_path / "autoscaling.yaml"
    file.write_text(yaml.safe_dump(autoscaling(port)))
    with connect(ClusterConfig(object_store_mib=100), {}):
        pass  # from now on this process is in token mode, as `ray start` is
    environment = os.environ | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    arguments = (
        "--include-dashboard=false",
        "--num-cpus=2",
        '--resources={"learn": 1}',
        f"--object-store-memory={STORE}",
        f"--autoscaling-config={file}",
    )
    with head(environment, *arguments, log=tmp_path / "ray.log", port=port):
        yield f"127.0.0.1:{port}"
        ray.shutdown()


def rollout_nodes() -> int:
    return sum("roll" in node["Resources"] for node in ray.nodes() if node["Alive"])


def test_nodes_join_for_rollout_actors_and_leave_after_them(
    address: str, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """No rollout node exists when the run starts."""
    settings = {
        "cluster.address": address,
        "cluster.rollout_resource": "roll",
        "cluster.learner_resource": "learn",
        "cluster.cpus_per_rollout_actor": 1,
    }
    with pytest.raises(ResourceError, match=r"cluster\.autoscales=true waits for them"):
        run(run_config(tiny_model, prompts, tmp_path / "none", **settings))
    seen: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        seen.append(rollout_nodes())

    summary = run(
        run_config(tiny_model, prompts, tmp_path / "run", **settings, **{"cluster.autoscales": True}), listener
    )
    assert max(seen) == 2
    assert summary.accounting.complete and summary.accounting.total == PROMPTS
    ray.init(address=address, log_to_driver=False)
    wait_until(lambda: rollout_nodes() == 0, "idle nodes to leave")
