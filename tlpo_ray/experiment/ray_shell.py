"""Trials as Ray tasks, several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ray

from tlpo_ray.cluster.connect import Demand, connect
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.errors import DeadlineError, first_line
from tlpo_ray.experiment.plan import Trial
from tlpo_ray.experiment.trial import ResultRow, run_trial
from tlpo_ray.stopping import interruptible

POLL_S = 1.0
"""Longest wait for a trial to end before deadlines are checked, in seconds."""

# `max_calls=1` gives each trial a process of its own, so that a trial cannot change torch's state for the next one.
_remote_trial = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(run_trial)


def run_trials(
    trials: Sequence[tuple[Trial, Path]],
    jobs: int,
    deadline_s: float,
    cluster: ClusterConfig,
    on_start: Callable[[Trial], None],
) -> Iterator[tuple[Trial, ResultRow | str]]:
    """Yield each trial with its row, or with the reason why it failed, as they end.

    Args:
        trials: Trials with their folders, started in this order.
        jobs: Largest number of trials at once.
        deadline_s: Deadline of one trial, in seconds.
        cluster: Cluster to use; without an address one is started here.
        on_start: Called when a trial is started.

    Raises:
        DeadlineError: A trial took longer than `deadline_s`; the results of the others are kept.
    """
    waiting = list(reversed(trials))
    running: dict[ray.ObjectRef, tuple[Trial, float]] = {}
    with connect(cluster, {"CPU": Demand(rollout=1, learner=0)}):
        while waiting or running:
            while waiting and len(running) < jobs:
                trial, folder = waiting.pop()
                # Absolute, because a task has a working directory of its own.
                running[_remote_trial.remote(trial, folder.absolute())] = (trial, time.monotonic())
                on_start(trial)
            with interruptible():
                ended, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
            for reference in ended:
                trial, _began = running.pop(reference)
                yield trial, _outcome(reference)
            for trial, began in running.values():
                if time.monotonic() - began > deadline_s:
                    raise DeadlineError(f"trial {trial.run} did not finish within {deadline_s:.0f} s")


def _outcome(reference: ray.ObjectRef) -> ResultRow | str:
    """Return the row of a trial that has ended, or the reason why it failed."""
    try:
        row: ResultRow = ray.get(reference)
    except Exception as error:  # a trial may raise anything, and the others continue
        cause = getattr(error, "cause", None) or error
        return f"{type(cause).__name__}: {first_line(cause)}"
    return row
