"""Placement groups: where processes that come and go may run."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

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


def place_together(
    resources: dict[str, float], count: int, selectors: Sequence[Selector], wait_s: float
) -> PlacementGroup:
    """Request room for several processes on as few nodes as possible, and return the group, which may not be there yet.

    Args:
        resources: What each process requests, by Ray's resource names.
        count: Number of processes.
        selectors: Labels of their nodes, in order of preference; empty for any nodes.
        wait_s: How long to wait for nodes of each but the last, in seconds.
    """
    bundles = [resources] * count
    for selector, following in pairwise(selectors):
        group = placement_group(bundles, "PACK", bundle_label_selector=[dict(selector)] * count)
        with interruptible() as limit_s:
            is_placed = group.wait(min(wait_s, limit_s))
        if is_placed:
            return group
        remove_placement_group(group)
        logger.warning(
            "no room on nodes with the labels %s after %g s: trying %s", describe(selector), wait_s, describe(following)
        )
    last = [dict(selectors[-1])] * count if selectors else None
    return placement_group(bundles, "PACK", bundle_label_selector=last)


class PlacementPool:
    """One placement group per process, so that processes can come and go independently.

    A group that cannot be placed yet is visible to Ray's autoscaler as demand.

    Args:
        selectors: Labels of their nodes, in order of preference; empty for any nodes.
        wait_s: Time after which a process is requested with the next of them, in seconds.
    """

    def __init__(self, selectors: Sequence[Selector] = (), wait_s: float = 0.0) -> None:
        self._selectors, self._wait_s = selectors, wait_s
        self._groups: dict[Hashable, PlacementGroup] = {}
        self._requested: dict[Hashable, tuple[int, float]] = {}
        """Number of the selector that each key was requested with last, and when."""

    def reserve(self, keys: Sequence[Hashable], resources: dict[str, float]) -> None:
        """Request a placement group per key, and wait briefly: a cluster that has the room grants it at once."""
        for key in keys:
            self._request(key, resources, 0)
        deadline = time.monotonic() + RESERVE_WAIT_S
        for key in keys:
            self._groups[key].wait(max(0.0, deadline - time.monotonic()))

    def is_ready(self, key: Hashable, resources: dict[str, float]) -> bool:
        """Return whether the cluster has granted the key's group; request it first if that has not happened yet."""
        if key not in self._groups:
            self._request(key, resources, 0)
        if self._groups[key].wait(0):
            return True
        number, since = self._requested[key]
        if len(self._selectors) > 1 and time.monotonic() - since > self._wait_s:
            following = (number + 1) % len(self._selectors)
            logger.warning(
                "%s found no room on nodes with the labels %s after %g s: trying %s",
                key, describe(self._selectors[number]), self._wait_s, describe(self._selectors[following]),
            )  # fmt: skip
            remove_placement_group(self._groups.pop(key))
            self._request(key, resources, following)
        return False

    def strategy(self, key: Hashable) -> PlacementGroupSchedulingStrategy:
        """Return the scheduling strategy that starts a process in the key's group."""
        return PlacementGroupSchedulingStrategy(self._groups[key], placement_group_bundle_index=0)

    def release(self, key: Hashable) -> None:
        """Remove the key's group, if it has one."""
        if key in self._groups:
            remove_placement_group(self._groups.pop(key))

    def _request(self, key: Hashable, resources: dict[str, float], number: int) -> None:
        """Request a key's group with one of the selectors."""
        selector = [dict(self._selectors[number])] if self._selectors else None
        self._groups[key] = placement_group([resources], bundle_label_selector=selector)
        self._requested[key] = number, time.monotonic()

    def close(self) -> None:
        """Remove all groups."""
        for key in tuple(self._groups):
            self.release(key)
