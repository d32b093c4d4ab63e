"""Finding out where remote processes hang: every one of them can be made to dump its stacks, wherever it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tlpo_ray.cluster.process_log import LOGS, keep_output
from tlpo_ray.cluster.stacks import STACKS, enable_stack_dumps, request_stack_dumps
from tlpo_ray.errors import DeadlineError

DUMP_WAIT_S = 5.0
"""Longest wait for stack dumps, in seconds: the process that hangs has already cost enough time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """Location of one of the run's processes."""

    node_id: str
    """Ray's id of the node."""
    pid: int


def register_process(run_folder: str | None, name: str) -> ProcessInfo:
    """Keep this process's output in the run folder, dump its stacks there on request, and return its location.

    Args:
        run_folder: The run's folder, on storage that all nodes share; None for a process without one, whose stacks go
            to its error output.
        name: Name of the process, and of its files.
    """
    stacks = None
    if run_folder is not None:
        stacks = Path(run_folder) / STACKS
        keep_output(Path(run_folder) / LOGS, name)
    return ProcessInfo(node_id=ray.get_runtime_context().get_node_id(), pid=enable_stack_dumps(stacks, name))


@contextmanager
def stacks_if_late(processes: Collection[Any]) -> Iterator[None]:
    """Call `dump_stacks` when a deadline expires inside the block."""
    try:
        yield
    except DeadlineError:
        dump_stacks(processes)
        raise


def dump_stacks(processes: Collection[Any]) -> None:
    """Make processes on any node dump the stacks of their threads. Best effort, a few seconds at most.

    Args:
        processes: References to their `ProcessInfo`; those that have not resolved yet are left out.
    """
    known: list[ProcessInfo] = []
    for ref in ray.wait(list(processes), num_returns=len(processes), timeout=0)[0]:
        with suppress(RayError):  # it died before it could say where it runs
            known.append(ray.get(ref))
    requests = []
    for node_id in {process.node_id for process in known}:
        on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
        pids = [process.pid for process in known if process.node_id == node_id]
        request = ray.remote(request_stack_dumps).options(num_cpus=0, scheduling_strategy=on_node)
        requests.append(request.remote(pids))
    ray.wait(requests, num_returns=len(requests), timeout=DUMP_WAIT_S)
