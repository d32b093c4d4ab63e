"""Fleet and learner of a run in one process: one rollout worker and one learner worker, called directly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learner.weight_export import WeightExporter
from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.config.run import MIB, RunConfig
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Prompt, RolloutStats, decode, encode
from tlpo_ray.flow.weights import WeightUpdate

if TYPE_CHECKING:
    from actors.completions import Completion
    from actors.worker import RolloutWorker
    from learner.checkpoint_writer import SavedCheckpoint
    from learner.report import UpdateReport
    from learner.worker import LearnerWorker


class LocalFleet:
    """One rollout worker in this process.

    Args:
        worker: Rolls out.
        exchange: Prompts come from it and outcomes go to it.
        config: The run's configuration.
    """

    name = "local"
    num_restarts = 0
    size = 1
    weights_lost = False

    def __init__(self, worker: RolloutWorker, exchange: Exchange, config: RunConfig) -> None:
        self._worker = worker
        self._exchange = exchange
        self._tolerance = config.flow.canary_tolerance
        self.canary = self.sync_s = 0.0
        self._started, self._busy_s = time.monotonic(), 0.0

    @property
    def utilization(self) -> float:
        """Share of the time since the start in which the worker rolled out."""
        return self._busy_s / (time.monotonic() - self._started)

    @property
    def slow(self) -> dict[str, str]:
        """Return nothing: no deadline applies to work in this process."""
        return {}

    @property
    def states(self) -> dict[str, int]:
        """Number of workers by state: the one there is always works."""
        return {"healthy": 1}

    def resize(self, size: int) -> None:
        """Do nothing: there is always one worker."""

    def sleep(self) -> None:
        """Do nothing: no other process shares the GPU."""

    def sync_weights(self, update: WeightUpdate) -> None:
        """Load a policy version and compare the canary."""
        began = time.monotonic()
        self.canary = max(self.canary, self._worker.load(update, self._tolerance))
        self.sync_s = time.monotonic() - began

    def advance(self, timeout_s: float, wake: Sequence[Any] = ()) -> RolloutStats:
        """Roll out one batch, if there are prompts; returns its counts."""
        prompts = self._exchange.lease(self.name, 1)
        if not prompts:
            return RolloutStats()
        began = time.monotonic()
        report = self._worker.run_batch(prompts)
        self._busy_s += time.monotonic() - began
        self._exchange.submit(self.name, report.results, encode(report.groups), self._worker.version)
        return report.stats

    def generate(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Completion]:
        """Return `samples` complete answers per prompt."""
        return self._worker.generate(prompts, samples, temperature, max_new_tokens, seed)


class LocalLearner:
    """One learner worker in this process.

    Args:
        worker: Learns.
        config: The run's configuration.
    """

    pending: tuple[Any, ...] = ()
    is_draining = False

    def __init__(self, worker: LearnerWorker, config: RunConfig) -> None:
        self._worker = worker
        self._exporter = WeightExporter(config.flow.bucket_mib * MIB, config.flow.full_sync_interval)
        self._report: UpdateReport | None = None
        self.restart_budget = RestartBudget(0)

    @property
    def slow(self) -> dict[str, str]:
        """Return nothing: no deadline applies to work in this process."""
        return {}

    @property
    def version(self) -> int:
        """Policy version of the weights."""
        return self._worker.version

    def begin_update(self, payload: bytes, progress: float) -> None:
        """Make the update at once."""
        self._report = self._worker.update(decode(payload), progress)

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        """Return the report of the last update."""
        return self._report

    def export_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        """Return the current policy version."""
        update = self._worker.export_weights(self._exporter, canary_context)
        assert update is not None
        return update

    def begin_save(self, folder: Path, keep_last: int) -> None:
        """Begin a checkpoint below `folder`; returns when training may continue."""
        self._worker.begin_save(folder, keep_last)

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        """Return the checkpoint that has become complete since the last call, or, with `wait`, becomes so."""
        return self._worker.poll_save(wait=wait)

    def restore(self, folder: Path, until: int) -> int:
        """Load the newest intact checkpoint of at most version `until`; returns the learner's version after that."""
        return self._worker.restore(folder, until)

    def restart(self) -> None:
        """Never called: the learner is only lost together with this process."""
        raise AssertionError("a local learner cannot be lost on its own")

    def poll_ready(self, timeout_s: float) -> bool:
        """Return whether the learner has started: it always has."""
        return True

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder."""
        self._worker.export(folder)
