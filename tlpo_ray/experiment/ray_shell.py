"""Trials as Ray tasks: as many at once as the cluster has CPUs for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ray

from tlpo_ray.cluster.connect import Demand, connected
from tlpo_ray.config.run import ClusterConfig
from tlpo_ray.errors import DeadlineError, first_line
from tlpo_ray.experiment.plan import Trial
from tlpo_ray.experiment.trial import Row, run_trial

LOOK_S = 1.0
"""How long one look at the running trials may take."""

# A process a trial: nothing that one did to torch or its random state reaches the next.
_remote_trial = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(run_trial)

Started = Callable[[Trial], None]


def run_trials(
    trials: Sequence[tuple[Trial, Path]], jobs: int, deadline_s: float, cluster: ClusterConfig, started: Started
) -> Iterator[tuple[Trial, Row | str]]:
    """Each trial with its row, or with what went wrong, as they end; at most `jobs` at once.

    Raises:
        DeadlineError: a trial took longer than `deadline_s`; the others' results stay.
    """
    waiting = list(reversed(trials))
    running: dict[ray.ObjectRef, tuple[Trial, float]] = {}
    with connected(cluster, {"CPU": Demand(rollout=1, learner=0)}):
        while waiting or running:
            while waiting and len(running) < jobs:
                trial, folder = waiting.pop()
                running[_remote_trial.remote(trial, folder.absolute())] = (trial, time.monotonic())
                started(trial)
            ended, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S)
            for ref in ended:
                trial, _began = running.pop(ref)
                yield trial, _outcome(ref)
            for trial, began in running.values():
                if time.monotonic() - began > deadline_s:
                    raise DeadlineError(f"trial {trial.run} did not end within {deadline_s:.0f} s")


def _outcome(ref: ray.ObjectRef) -> Row | str:
    try:
        row: Row = ray.get(ref)
    except Exception as error:  # whatever a trial may raise; the others go on
        cause = getattr(error, "cause", None) or error
        return f"{type(cause).__name__}: {first_line(cause)}"
    return row
