"""Metrics of a run in Weights & Biases and MLflow, for users of these services.

The address and the credentials of a tracker come from its own environment variables (`WANDB_API_KEY`, `WANDB_PROJECT`,
`WANDB_MODE`, `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`), so that no key gets into a configuration.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.files import disk_errors, read_json, write_json

logger = logging.getLogger(__name__)

PROJECT = "tlpo-ray"
"""Project (W&B) or experiment (MLflow) of a run if the environment does not name one."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}
"""Name of the package to install, by tracker."""
RUN_IDS = "trackers.json"
"""File of a run folder with the run's id in each tracker, under which a resumed run continues."""
START_TIMEOUT_S = 60.0
"""Longest wait for a tracker's first answer, in seconds."""
FINISH_TIMEOUT_S = 20.0
"""Longest wait for the last metrics at the end of a run, in seconds: a run that is pre-empted has little time."""
MLFLOW_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Seconds per request and retries where no server answers; with MLflow's own defaults it takes minutes to fail."""

MetricsUpdate = tuple[int, dict[str, float]]
"""(policy version, metrics by name) of one update."""


class Tracker(Protocol):
    """A run in a service that keeps metrics."""

    id: str
    """The run's id in the service."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of update `step`."""

    def finish(self, *, complete: bool) -> None:
        """End the run, as complete or as failed."""


class Wandb:
    """A run in Weights & Biases.

    Args:
        config: The run's configuration.
        run_id: Id of an earlier start of the same run, to continue it; None for a new run.

    Raises:
        wandb.errors.Error: No user is logged in, or the server does not answer.
    """

    def __init__(self, config: RunConfig, run_id: str | None) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=config.name,
            id=run_id,
            resume=None if run_id is None else "allow",
            dir=str(config.folder),
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off", init_timeout=START_TIMEOUT_S),
        )
        self.id = str(self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of update `step`."""
        self._run.log(dict(values), step=step)

    def finish(self, *, complete: bool) -> None:
        """End the run, as complete or as failed."""
        self._run.finish(exit_code=0 if complete else 1)


class Mlflow:
    """A run in MLflow.

    Args:
        config: The run's configuration.
        run_id: Id of an earlier start of the same run, to continue it; None for a new run.

    Raises:
        mlflow.exceptions.MlflowException: The tracking server does not answer, or refuses access.
    """

    def __init__(self, config: RunConfig, run_id: str | None) -> None:
        for name, value in MLFLOW_TIMEOUTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._client = Metric, MlflowClient()
        if run_id is not None:
            self.id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.id = str(self._client.create_run(experiment_id, run_name=config.name).info.run_id)
        settings = [Param(key, str(value)) for key, value in _flat(config.model_dump(mode="json"))]
        self._client.log_batch(self.id, params=settings)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of update `step`."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[self._metric(key, value, now, step) for key, value in values.items()])

    def finish(self, *, complete: bool) -> None:
        """End the run, as complete or as failed."""
        self._client.set_terminated(self.id, "FINISHED" if complete else "FAILED")


TRACKERS: dict[str, type[Wandb] | type[Mlflow]] = {"wandb": Wandb, "mlflow": Mlflow}
"""Tracker classes by the name that `trackers` in the configuration uses."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that all trackers are installed, before anything starts.

    Raises:
        UserError: A tracker is not installed; the message names it and its package.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"trackers has {name}, which is not installed: pip install {PACKAGES[name]}")


class BackgroundTracker:
    """Logs to trackers from a thread of its own, so that a slow or broken server never holds up the run.

    A tracker that raises is dropped with a warning; the others continue.

    Args:
        trackers: Trackers by name.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._updates: SimpleQueue[MetricsUpdate | None] = SimpleQueue()
        """Updates to log; None ends the thread."""
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="trackers", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the metrics of update `step`; they are logged later, or lost with a warning."""
        self._updates.put((step, dict(values)))

    def close(self, *, complete: bool) -> None:
        """End the run in all trackers, and wait briefly for the metrics that are still queued.

        Args:
            complete: Whether the run ended normally.
        """
        self._complete = complete
        self._updates.put(None)
        self._thread.join(FINISH_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning(
                "%s did not accept the last metrics within %g s", ", ".join(self._trackers), FINISH_TIMEOUT_S
            )

    def _run(self) -> None:
        while (update := self._updates.get()) is not None:
            for name, tracker in tuple(self._trackers.items()):
                with self._drop_on_error(name):
                    tracker.log(*update)
        for name, tracker in tuple(self._trackers.items()):
            with self._drop_on_error(name):
                tracker.finish(complete=self._complete)

    @contextmanager
    def _drop_on_error(self, name: str) -> Iterator[None]:
        """Drop a tracker that raises inside the block."""
        try:
            yield
        # Anything: it comes from a package that we do not know, over a network, and must never end the run.
        except Exception as error:
            del self._trackers[name]
            logger.warning("%s failed and gets no more metrics of this run: %s", name, first_line(error))


@contextmanager
def start_trackers(config: RunConfig) -> Iterator[BackgroundTracker]:
    """Start the trackers that a configuration names; they end with the block.

    Raises:
        UserError: A tracker does not start, or the file with the run's ids is damaged.
        ResourceError: The run's ids cannot be written to the run folder.
    """
    file = config.folder / RUN_IDS
    run_ids = _read_run_ids(file)
    started: dict[str, Tracker] = {}
    for name in config.trackers:
        try:
            started[name] = TRACKERS[name](config, run_ids.get(name))
        except Exception as error:  # each package has exceptions of its own
            raise UserError(f"trackers has {name}, which does not start: {first_line(error)}") from error
    if started:
        with disk_errors(str(file)):
            write_json(file, run_ids | {name: tracker.id for name, tracker in started.items()})
    tracker = BackgroundTracker(started)
    try:
        yield tracker
    except BaseException:
        tracker.close(complete=False)
        raise
    tracker.close(complete=True)


def _read_run_ids(file: Path) -> dict[str, str]:
    """Return the ids that trackers gave the run when it was started before; empty for a new run.

    Raises:
        UserError: The file is damaged.
    """
    try:
        run_ids = read_json(file)
        if not all(isinstance(run_id, str) for run_id in run_ids.values()):
            raise ValueError("an id is not text")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} is damaged ({first_line(error)}): remove it; the trackers then show the rest of the run as a new "
            f"run"
        ) from error
    return run_ids


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as (dotted key, value)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
