"""Announce that a node is about to be lost, and wait until the processes of runs have left it."""

from __future__ import annotations

import os
import time

import ray
from ray._private.state import actors
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

from tlpo_ray.cluster.connect import connect
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.stopping import interruptible

POLL_S = 0.5
"""Time between two looks at a node's processes, in seconds."""
ROLES = ("tlpo-rollout", "tlpo-learner")
"""How the names of processes begin that runs move to other nodes."""


def drain_node(node_id: str | None, notice_s: int) -> tuple[str, int]:
    """Drain a node of the cluster at RAY_ADDRESS, or else of the one that this machine belongs to.

    Ray places nothing more there, and active runs take their rollout actors and learner ranks away.

    Args:
        node_id: Ray's id of the node; None is the node that this process runs on.
        notice_s: Time in seconds after which the node is lost: how long to wait for the processes to leave.

    Returns:
        The node's id, and the number of processes that have left it.

    Raises:
        UserError: The cluster has no such node.
        ResourceError: No cluster answers, it refuses, or processes are still there at the end of the notice.
    """
    until = time.monotonic() + notice_s
    lost_at_ms = int((time.time() + notice_s) * 1000)
    with connect(ClusterConfig(address=os.environ.get("RAY_ADDRESS", "auto")), {}):
        node = node_id or ray.get_runtime_context().get_node_id()
        alive = sorted(one["NodeID"] for one in ray.nodes() if one["Alive"])
        if node not in alive:  # Ray would say that it was drained
            raise UserError(f"--node {node}: the cluster has no such node; its nodes are {', '.join(alive)}")
        before = _processes_on(node)
        client = GcsClient(address=ray.get_runtime_context().gcs_address)  # as `ray drain-node`, which is not public
        accepted, why = client.drain_node(node, DRAIN_NODE_REASON_PREEMPTION, "tlpo drain", lost_at_ms)
        if not accepted:
            raise ResourceError(f"Ray does not drain the node {node}: {why}")
        while left := before & _processes_on(node):
            with interruptible():
                time.sleep(POLL_S)
            if time.monotonic() > until:
                raise ResourceError(
                    f"{len(left)} of {len(before)} processes were still on the node {node} after {notice_s} s: runs "
                    f"repeat what they lose with it"
                )
        return node, len(before)


def _processes_on(node: str) -> set[str]:
    """Return the ids of the processes of runs on a node."""
    alive = {id_: actor for id_, actor in actors().items() if actor["State"] == "ALIVE"}
    return {
        id_
        for id_, actor in alive.items()
        if actor["Address"]["NodeID"] == node and str(actor["Name"]).startswith(ROLES)
    }
