"""Nodes that a run's cluster loses, and processes that the kernel kills for want of memory."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

import ray

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
"""Time between two looks, in seconds."""
OOM_KILLS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
"""Where Linux counts them: for this container, or else for the machine."""


class NodeWatch:
    """Logs what is lost in the cluster that this process is connected to."""

    def __init__(self) -> None:
        self._nodes = {node["NodeID"]: bool(node["Alive"]) for node in ray.nodes()}
        self._kills = _num_oom_kills()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Log what was lost since the last look, at most once per `INTERVAL_S`."""
        if time.monotonic() - self._looked < INTERVAL_S:
            return
        self._looked = time.monotonic()
        for node in ray.nodes():
            was_alive, self._nodes[node["NodeID"]] = self._nodes.get(node["NodeID"], False), bool(node["Alive"])
            if was_alive and not node["Alive"]:
                reason = node.get("DeathReasonMessage") or "Ray gives no reason"
                logger.warning("node %s (%s) was lost: %s", node["NodeManagerAddress"], node["NodeID"][:8], reason)
        if (kills := _num_oom_kills()) > self._kills:
            logger.warning(
                "the kernel of %s killed %d processes because memory ran out: place fewer processes on a node, or give "
                "each of them less memory",
                ray.util.get_node_ip_address(), kills - self._kills,
            )  # fmt: skip
            self._kills = kills


def _num_oom_kills() -> int:
    for file in OOM_KILLS:
        with suppress(OSError, ValueError, KeyError):
            return int(dict(line.split(maxsplit=1) for line in file.read_text().splitlines())["oom_kill"])
    return 0
