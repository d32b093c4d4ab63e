"""Placement groups: where processes that come and go may run."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

RESERVE_WAIT_S = 2.0
"""How long `PlacementPool.reserve` waits, in seconds, for all groups of one call together."""
RESOURCE_SHARE = 0.001
"""Amount requested of a custom resource: it says where a process may run, not how many may."""


def bundle(cpus: float, gpus: float, resource: str | None) -> dict[str, float]:
    """Return what a process requests from a node, by Ray's resource names; zero amounts are left out.

    Args:
        cpus: CPU cores.
        gpus: GPUs; may be fractional.
        resource: Custom resource that the node must have; a negligible amount of it is requested.
    """
    requested = {"CPU": cpus, "GPU": gpus, **({resource: RESOURCE_SHARE} if resource else {})}
    return {name: amount for name, amount in requested.items() if amount}


class PlacementPool:
    """One placement group per process, so that processes can come and go independently.

    A group that cannot be placed yet is visible to Ray's autoscaler as demand.
    """

    def __init__(self) -> None:
        self._groups: dict[Hashable, PlacementGroup] = {}

    def reserve(self, keys: Sequence[Hashable], resources: dict[str, float]) -> None:
        """Request a placement group per key, and wait briefly: a cluster that has the room grants it at once."""
        self._groups |= {key: placement_group([resources]) for key in keys}
        deadline = time.monotonic() + RESERVE_WAIT_S
        for key in keys:
            self._groups[key].wait(max(0.0, deadline - time.monotonic()))

    def is_ready(self, key: Hashable, resources: dict[str, float]) -> bool:
        """Return whether the cluster has granted the key's group; request it first if that has not happened yet."""
        if key not in self._groups:
            self._groups[key] = placement_group([resources])
        return bool(self._groups[key].wait(0))

    def strategy(self, key: Hashable) -> PlacementGroupSchedulingStrategy:
        """Return the scheduling strategy that starts a process in the key's group."""
        return PlacementGroupSchedulingStrategy(self._groups[key], placement_group_bundle_index=0)

    def release(self, key: Hashable) -> None:
        """Remove the key's group, if it has one."""
        if key in self._groups:
            remove_placement_group(self._groups.pop(key))

    def close(self) -> None:
        """Remove all groups."""
        for key in tuple(self._groups):
            self.release(key)
