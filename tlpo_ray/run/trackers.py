"""A run's metrics in Weights & Biases and MLflow, for those who have them.

Where they are and who may write there is said in their own environment variables (`WANDB_API_KEY`, `WANDB_PROJECT`,
`WANDB_MODE`, `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`), so no key gets into a configuration.
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
from tlpo_ray.files import read_json, write_json, written

logger = logging.getLogger(__name__)

PROJECT = "tlpo-ray"
"""Where runs are kept if the environment does not say it."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}
TRACKED = "trackers.json"
"""File of a run folder with the names that the trackers gave the run, so that a resumed run goes on under them."""
START_S = 60.0
"""How long a tracker may take to answer at first."""
FINISH_S = 20.0
"""How long a run waits at its end for the last metrics to arrive: one that is pre-empted has little time."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""How long MLflow tries where nobody answers; its own defaults are minutes."""
Update = tuple[int, dict[str, float]]


class Tracker(Protocol):
    """One place that keeps metrics."""

    id: str
    """The run's name there."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def finish(self, *, complete: bool) -> None: ...


class Wandb:
    """A run of Weights & Biases.

    Raises:
        wandb.errors.Error: nobody is logged in, or the server does not answer.
    """

    def __init__(self, config: RunConfig, known: str | None) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=config.name,
            id=known,
            resume=None if known is None else "allow",
            dir=str(config.folder),
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off", init_timeout=START_S),
        )
        self.id = str(self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class Mlflow:
    """A run of MLflow.

    Raises:
        mlflow.exceptions.MlflowException: the tracking server does not answer, or lets nobody in.
    """

    def __init__(self, config: RunConfig, known: str | None) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._client = Metric, MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self.id = str(self._client.create_run(experiment, run_name=config.name).info.run_id)
        settings = [Param(key, str(value)) for key, value in _flat(config.model_dump(mode="json"))]
        self._client.log_batch(self.id, params=settings)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[self._metric(key, value, now, step) for key, value in values.items()])

    def finish(self, *, complete: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if complete else "FAILED")


KINDS: dict[str, type[Wandb] | type[Mlflow]] = {"wandb": Wandb, "mlflow": Mlflow}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is not installed, before anything starts.

    Raises:
        UserError: names it.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"trackers has {name}, which is not installed: pip install {PACKAGES[name]}")


class Told:
    """Tells trackers in a thread of its own: a server that is slow or gone holds up nobody.

    Args:
        trackers: by name.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._updates: SimpleQueue[Update | None] = SimpleQueue()
        self._complete = False
        self._thread = threading.Thread(target=self._tell, name="trackers", daemon=True)
        self._thread.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One update's metrics; they arrive later, or are lost with a warning."""
        self._updates.put((step, dict(values)))

    def close(self, *, complete: bool) -> None:
        """Give what is under way a little time to arrive.

        Args:
            complete: whether the run ended as it should.
        """
        self._complete = complete
        self._updates.put(None)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            logger.warning("%s did not take the last metrics within %g s", ", ".join(self._trackers), FINISH_S)

    def _tell(self) -> None:
        while (update := self._updates.get()) is not None:
            self._each(lambda tracker, update=update: tracker.log(*update))
        self._each(lambda tracker: tracker.finish(complete=self._complete))

    def _each(self, act: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # of a package we do not know, over a network: never the run's end
                del self._trackers[name]
                logger.warning("%s takes no more metrics of this run: %s", name, first_line(error))


@contextmanager
def told(config: RunConfig) -> Iterator[Told]:
    """The trackers that a configuration names, for as long as the run goes on.

    Raises:
        UserError: one of them cannot be started.
        ResourceError: their names cannot be kept.
    """
    file = config.folder / TRACKED
    known = _known(file)
    started: dict[str, Tracker] = {}
    for name in config.trackers:
        try:
            started[name] = KINDS[name](config, known.get(name))
        except Exception as error:  # each package has errors of its own
            raise UserError(f"trackers has {name}, which does not start: {first_line(error)}") from error
    if started:
        with written(str(file)):
            write_json(file, known | {name: tracker.id for name, tracker in started.items()})
    found = Told(started)
    try:
        yield found
    except BaseException:
        found.close(complete=False)
        raise
    found.close(complete=True)


def _known(file: Path) -> dict[str, str]:
    """Names that trackers gave the run in an earlier life.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = read_json(file)
        if not all(isinstance(name, str) for name in found.values()):
            raise ValueError("a name is no text")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} is damaged ({first_line(error)}): remove it; what comes from now on is then a new run to the "
            f"trackers"
        ) from error
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
