"""Placement groups: where processes that come and go may run."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Mapping, Sequence

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tlpo_ray.stopping import interruptible

logger = logging.getLogger(__name__)

Selector = Mapping[str, str]
"""Labels that a node must have, as one of Ray's label selectors."""
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


def matches(labels: Mapping[str, str], selector: Selector) -> bool:
    """Return whether a node with these labels satisfies a selector, as Ray would find."""
    for name, wanted in selector.items():
        positive = wanted.removeprefix("!")
        values = positive[3:-1].split(",") if positive.startswith("in(") else [positive]
        if (labels.get(name) in [value.strip() for value in values]) == wanted.startswith("!"):
            return False
    return True


def describe(selector: Selector) -> str:
    """Return a selector in words."""
    return ", ".join(f"{name}={value}" for name, value in selector.items()) or "(any)"


class PlacementPool:
    """One placement group per key, for one process or several that are placed together; groups come and go singly.

    A group that cannot be placed yet is visible to Ray's autoscaler as demand.

    Args:
        selectors: Labels of their nodes, in order of preference; empty for any nodes.
        wait_s: Time without room after which a group is requested with the next of them, in seconds.
        count: Processes of a group, on as few nodes as possible.
    """

    def __init__(self, selectors: Sequence[Selector] = (), wait_s: float = 0.0, count: int = 1) -> None:
        self._selectors, self._wait_s, self._count = selectors, wait_s, count
        self._groups: dict[Hashable, PlacementGroup] = {}
        self._preference: dict[Hashable, int] = {}
        """Number of the selector that each key's group was requested with."""
        self._without_room: dict[Hashable, float] = {}
        """Since when each group has had no room: since its request, or since it was seen that its node is lost."""

    def reserve(self, keys: Sequence[Hashable], resources: dict[str, float]) -> None:
        """Request groups of keys that have none, and wait briefly: a cluster that has the room grants it at once."""
        for key in keys:
            if key not in self._groups:
                self._request(key, resources, 0)
        deadline = time.monotonic() + RESERVE_WAIT_S
        for key in keys:
            self._groups[key].wait(max(0.0, deadline - time.monotonic()))

    def is_ready(self, key: Hashable, resources: dict[str, float], timeout_s: float = 0.0) -> bool:
        """Return whether the cluster has granted the key's group; request it first if that has not happened yet.

        Args:
            key: Whose group.
            resources: What each of its processes requests, by Ray's resource names.
            timeout_s: How long to wait for it, in seconds.
        """
        if key not in self._groups:
            self._request(key, resources, 0)
        with interruptible() as limit_s:
            if self._groups[key].wait(min(timeout_s, limit_s)):
                self._without_room.pop(key, None)
                return True
        since = self._without_room.setdefault(key, time.monotonic())
        if len(self._selectors) > 1 and time.monotonic() - since > self._wait_s:
            number = self._preference[key]
            following = (number + 1) % len(self._selectors)
            logger.warning(
                "%s found no room on nodes with the labels %s after %g s: trying %s",
                key, describe(self._selectors[number]), self._wait_s, describe(self._selectors[following]),
            )  # fmt: skip
            self.release(key)
            self._request(key, resources, following)
        return False

    def strategy(self, key: Hashable, index: int = 0) -> PlacementGroupSchedulingStrategy:
        """Return the scheduling strategy that starts a process in the key's group.

        Args:
            key: Whose group.
            index: Number of the process in it.
        """
        return PlacementGroupSchedulingStrategy(self._groups[key], placement_group_bundle_index=index)

    def release(self, key: Hashable) -> None:
        """Remove the key's group, if it has one."""
        if key in self._groups:
            remove_placement_group(self._groups.pop(key))
        self._without_room.pop(key, None)

    def close(self) -> None:
        """Remove all groups."""
        for key in tuple(self._groups):
            self.release(key)

    def _request(self, key: Hashable, resources: dict[str, float], number: int) -> None:
        """Request a key's group with one of the selectors."""
        selector = [dict(self._selectors[number])] * self._count if self._selectors else None
        self._groups[key] = placement_group([resources] * self._count, "PACK", bundle_label_selector=selector)
        self._preference[key], self._without_room[key] = number, time.monotonic()
