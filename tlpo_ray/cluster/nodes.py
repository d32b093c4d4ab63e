"""Nodes that a run's cluster loses or is about to lose, and processes that the kernel kills for want of memory."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import ray

logger = logging.getLogger(__name__)

DRAIN_INTERVAL_S, INTERVAL_S = 1.0, 5.0
"""Time between two questions for nodes that are about to be lost, and for nodes that are lost, in seconds."""
ANSWER_S = 3.0
"""Longest wait for a node's answer, in seconds."""
OOM_KILLS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
"""Where Linux counts them: for this container, or else for the machine."""


def draining_nodes() -> dict[str, float]:
    """Return the ids of nodes that the cluster will lose soon, each with the seconds that are left.

    A spot node that got its notice, or one that an operator drains; infinity if it has no deadline. Ray places nothing
    more there, and leaves it to those whose processes are there to move them.
    """
    now = time.time()
    return {node: until - now for node, until in _drain_deadlines(int(time.monotonic() / DRAIN_INTERVAL_S)).items()}


@lru_cache(maxsize=1)
def _drain_deadlines(interval: int) -> dict[str, float]:
    """Return when the nodes are lost, in seconds since the epoch; Ray is asked once in each interval."""
    # As Ray Train does: there is no public way to ask for them.
    deadlines = ray._private.state.state.get_draining_nodes()
    return {node: until / 1000 if until else math.inf for node, until in deadlines.items()}


class NodeWatch:
    """Logs what is lost in the cluster that this process is connected to, and ends this process before its own node."""

    def __init__(self) -> None:
        self._stopped = False
        self._nodes = {node["NodeID"]: bool(node["Alive"]) for node in ray.nodes()}
        self._kills = _num_oom_kills()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Log what was lost since the last look, at most once per `INTERVAL_S`; look after this node more often."""
        self._leave_this_node()
        if time.monotonic() - self._looked < INTERVAL_S:
            return
        self._looked = time.monotonic()
        self._log_lost()

    def look_at_last(self) -> None:
        """Log what was lost, when a run fails; also nodes that do not answer, of which Ray does not know yet."""
        with suppress(Exception):  # Ray itself may be gone: the run's own error is what matters
            self._log_lost()
            for node in ray.nodes():
                if node["Alive"] and not _answers(node["NodeManagerAddress"], node["NodeManagerPort"]):
                    logger.warning(
                        "node %s (%s) does not answer: it is lost", node["NodeManagerAddress"], node["NodeID"][:8]
                    )

    def _log_lost(self) -> None:
        """Log nodes that Ray has found to be lost since the last look, and processes that the kernel has killed."""
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

    def _leave_this_node(self) -> None:
        """Ask this process to end if its node is drained: what it has done can be resumed elsewhere."""
        if not self._stopped and ray.get_runtime_context().get_node_id() in draining_nodes():
            self._stopped = True
            logger.warning("the node of the driver is drained: the run stops here, and has to be resumed elsewhere")
            os.kill(os.getpid(), signal.SIGTERM)


def _answers(address: str, port: int) -> bool:
    """Return whether the Ray of a node accepts connections."""
    try:
        socket.create_connection((address, port), timeout=ANSWER_S).close()
    except OSError:
        return False
    return True


def _num_oom_kills() -> int:
    for file in OOM_KILLS:
        with suppress(OSError, ValueError, KeyError):
            return int(dict(line.split() for line in file.read_text().split("\n") if line)["oom_kill"])
    return 0
