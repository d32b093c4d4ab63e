"""Ray actors that come and go: each in a placement group of its own, and the results of their calls."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayError, RayTaskError, UnserializableException

from tlpo_ray.cluster.hangs import dump_stacks
from tlpo_ray.cluster.nodes import draining_nodes
from tlpo_ray.cluster.placement import PlacementPool
from tlpo_ray.cluster.waiting import LOST, original_error_line
from tlpo_ray.errors import first_line
from tlpo_ray.stopping import interruptible

PROGRESS_GROUP = "progress"
"""Ray's concurrency group of the method `progress`."""
OBJECT_LOST = ObjectLostError
"""Exception about a value that is gone because the process that held it, or its node, died."""


class ActorLostError(Exception):
    """The process of a call died, or could not be started; the message is one line."""


class CallFailedError(Exception):
    """A call raised an exception, and its process continues.

    Args:
        error: The exception, as it was raised there.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def finished_calls(calls: Sequence[Any], wake: Iterable[Any], timeout_s: float) -> list[Any]:
    """Wait until a call has finished, and return all calls that have.

    Args:
        calls: References of calls that are under way.
        wake: Further references that end the wait, without being returned.
        timeout_s: Longest wait in seconds.

    Raises:
        StoppedError: A signal has come.
    """
    with interruptible():
        ray.wait([*calls, *wake], num_returns=1, timeout=timeout_s)
    if not calls:
        return []
    finished: list[Any] = ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]
    return finished


def call_result(call: Any) -> Any:
    """Return the value of a finished call.

    Raises:
        ActorLostError: Its process is gone.
        CallFailedError: It raised an exception.
    """
    try:
        return ray.get(call)
    except LOST as error:
        raise ActorLostError(first_line(error)) from error
    except RayTaskError as error:
        raise CallFailedError(error.cause) from error
    except UnserializableException as error:
        raise CallFailedError(RuntimeError(original_error_line(error))) from error


def answering_progress(actor_class: type) -> Any:
    """Return a Ray actor class whose method `progress` has a thread of its own: it is served while another call runs.

    All other methods share one thread, or one event loop.
    """
    return ray.remote(concurrency_groups={PROGRESS_GROUP: 1})(actor_class)


def ask_progress(handle: Any) -> Any:
    """Call `progress` on an actor of such a class; returns the reference to the answer."""
    return handle.progress.options(concurrency_group=PROGRESS_GROUP).remote()


class ActorPool:
    """Ray actors of one class, each under a key and in a placement group of its own.

    Args:
        actor_class: Class of the processes. It needs a method `process_info`, which returns a `ProcessInfo`, and a
            method `progress`.
        resources: What each process requests from its node, by Ray's resource names.
        options: Options of `ray.remote` for all of them.
        placement: Where they may run.
    """

    def __init__(
        self, actor_class: type, resources: dict[str, float], options: Mapping[str, Any], placement: PlacementPool
    ) -> None:
        self._actor_class = answering_progress(actor_class)
        self._resources = resources
        self._options = options
        self._placement = placement
        self._handles: dict[Hashable, Any] = {}
        self._processes: dict[Hashable, Any] = {}
        """References to the location of each process."""
        self._nodes: dict[Hashable, str] = {}
        """Nodes of the processes that have said where they are."""

    def reserve(self, keys: Sequence[Hashable]) -> None:
        """Request room for actors that will be started, and wait briefly for it."""
        self._placement.reserve(keys, self._resources)

    def has_room(self, key: Hashable) -> bool:
        """Return whether the cluster has room for the actor of a key; requests it if that has not happened yet."""
        return self._placement.is_ready(key, self._resources)

    def start(self, key: Hashable, name: str, *args: Any) -> Any:
        """Start the actor of a key, which has room, and return its handle.

        Args:
            key: Must have no running actor.
            name: Name of the actor in Ray.
            args: Arguments of its class.
        """
        options = {**self._options, "name": name, "scheduling_strategy": self._placement.strategy(key)}
        self._handles[key] = handle = self._actor_class.options(**options).remote(*args)
        self._processes[key] = handle.process_info.remote()
        return handle

    def __contains__(self, key: Hashable) -> bool:
        return key in self._handles

    def __getitem__(self, key: Hashable) -> Any:
        """Return the handle of a key's actor."""
        return self._handles[key]

    def kill(self, key: Hashable) -> None:
        """Kill the actor of a key, if it has one; its room stays reserved."""
        self._processes.pop(key, None)
        self._nodes.pop(key, None)
        if key in self._handles:
            ray.kill(self._handles.pop(key), no_restart=True)

    def draining(self) -> dict[Hashable, float]:
        """Return the keys of actors whose node is about to be lost, each with the seconds that are left."""
        nodes = draining_nodes()
        if not nodes:
            return {}
        for key in self._processes.keys() - self._nodes.keys():
            with suppress(GetTimeoutError, RayError):  # it is starting, or dead
                self._nodes[key] = ray.get(self._processes[key], timeout=0).node_id
        return {key: nodes[node] for key, node in self._nodes.items() if node in nodes}

    def release(self, key: Hashable) -> None:
        """Return a key's room to the cluster."""
        self._placement.release(key)

    @property
    def processes(self) -> list[Any]:
        """References to the locations of all processes, for `stacks_if_late`."""
        return list(self._processes.values())

    def dump_stacks(self) -> None:
        """Make all processes dump the stacks of their threads."""
        dump_stacks(self.processes)

    def close(self) -> None:
        """Kill all actors and return their room."""
        for handle in self._handles.values():
            ray.kill(handle, no_restart=True)
        self._placement.close()
