"""TLPO's Algorithm 1 as a loop over three parts: exchange, rollout fleet, learner.

The parts come in two assemblies (`assembly.py`): `local` in this process, `distributed` in Ray. This loop cannot tell
them apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tlpo_ray.config.run import RunConfig
from tlpo_ray.flow.exchange import Status
from tlpo_ray.flow.ledger import Accounting
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, RolloutReport
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.run_folder import RunFolder

POLL_S = 1.0
"""How long one look at fleet or learner may take before progress is shown again."""


class Exchange(Protocol):
    """Ledger and queue (`flow.exchange.Exchange`)."""

    def lease(self, holder: str, sharers: int) -> list[Prompt]: ...
    def deliver(
        self, holder: str, results: Sequence[PromptResult], payload: Any, learner_version: int
    ) -> tuple[PromptResult, ...]: ...
    def give_back(self, holder: str) -> int: ...
    def take(self, learner_version: int) -> bytes: ...
    def learned(self, learner_version: int) -> None: ...
    def status(self) -> Status: ...


class Fleet(Protocol):
    """The rollout actors."""

    canary: float

    @property
    def restarts(self) -> int: ...
    @property
    def busy(self) -> float:
        """Share of the rollout actors' time that they had work."""

    def publish(self, update: WeightUpdate) -> None: ...
    def advance(self, exchange: Any, timeout_s: float, wake: Sequence[Any] = ()) -> list[RolloutReport]: ...
    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Any]: ...


class Learner(Protocol):
    """The learner group."""

    @property
    def version(self) -> int: ...
    @property
    def unfinished(self) -> Sequence[Any]:
        """What ends a fleet's wait, because the update has ended."""

    def begin_update(self, payload: bytes, progress: float) -> None: ...
    def poll_update(self, timeout_s: float) -> Any: ...
    def publish(self, canary_context: Sequence[int]) -> WeightUpdate: ...
    def save(self, folder: Path, state: dict[str, Any], keep_last: int) -> None: ...
    def export(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One assembly of a run: everything has started, and the fleet holds the learner's weights."""

    exchange: Exchange
    fleet: Fleet
    learner: Learner
    canary_context: tuple[int, ...]
    """Token ids that learner and actors compare log-probabilities after."""


@dataclass(slots=True)
class Tally:
    """What the loop has counted so far."""

    sampled: int = 0
    clean: int = 0
    tokens_generated: int = 0
    tokens_discarded: int = 0
    tokens_clean: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("collect", "update", "publish"), 0.0))

    def count(self, reports: Sequence[RolloutReport]) -> None:
        for report in reports:
            self.tokens_generated += report.tokens_generated
            self.tokens_discarded += report.tokens_discarded
            self.tokens_clean += report.tokens_clean
            self.sampled += sum(result.outcome is not Outcome.SKIPPED for result in report.results)
            self.clean += sum(result.outcome is Outcome.CLEAN for result in report.results)

    @property
    def rpr(self) -> float:
        """Response pass rate of the answers sampled so far (Eq. 8); 1 before the first."""
        return self.clean / self.sampled if self.sampled else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a progress display may show."""

    status: Status
    tally: Tally
    version: int
    seconds: float


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """How a run ended."""

    updates: int
    accounting: Accounting
    tally: Tally
    rerolled: int
    restarts: int
    canary: float
    """Largest canary difference of any sync, nats."""


def train(config: RunConfig, parts: Parts, folder: RunFolder, listener: Listener) -> TrainSummary:
    """Run until every prompt has its outcome.

    Raises:
        TlpoError: see `flow.errors`; checkpoints and experiences written so far stay.
    """
    run = _Run(config, parts, folder, listener)
    while run.collect():  # answers, confusion points, candidate sets, lookahead rewards: Eq. 1 to 3
        run.learn()  # advantages and p optimizer steps: Eq. 4 to 7
        run.publish()  # policy version v + 1 to every rollout actor
        run.record()
    return run.summary()


class _Run:
    """State and stages of the loop in `train`."""

    def __init__(self, config: RunConfig, parts: Parts, folder: RunFolder, listener: Listener) -> None:
        self._config = config
        self._exchange, self._fleet, self._learner = parts.exchange, parts.fleet, parts.learner
        self._canary_context = parts.canary_context
        self._folder = folder
        self._listener = listener
        self._tally = Tally()
        self._started = self._recorded = time.monotonic()
        self._recorded_tokens = 0
        self._recorded_clean = (0, 0)
        self._sync_bytes = 0
        self._update: Any = None
        self._status = parts.exchange.status()

    def collect(self) -> bool:
        """Roll out until the learner can take an update's groups; False when no prompt is left."""
        with _Stopwatch(self._tally.seconds, "collect"):
            while not self._look().ready:
                if self._status.finished:
                    return False
                self._roll_out(POLL_S)
        return True

    def learn(self) -> None:
        """One update; with `max_staleness` above 0 the rollout actors go on meanwhile."""
        with _Stopwatch(self._tally.seconds, "update"):
            payload = self._exchange.take(self._learner.version)
            self._learner.begin_update(payload, self._status.progress)
            self._folder.keep_experiences(payload)
            overlap = self._config.flow.max_staleness > 0
            while (update := self._learner.poll_update(0.0 if overlap else POLL_S)) is None:
                if overlap:
                    self._roll_out(POLL_S, self._learner.unfinished)
                    self._look()
            self._update = update
            self._exchange.learned(self._learner.version)

    def publish(self) -> None:
        """Hand the learner's policy version to the fleet; each actor loads it when it is next free."""
        with _Stopwatch(self._tally.seconds, "publish"):
            update = self._learner.publish(self._canary_context)
            self._sync_bytes = update.steps[-1].nbytes if update.steps else 0
            self._fleet.publish(update)

    def record(self) -> None:
        """Metrics of the update; a checkpoint when it is time."""
        self._look()
        version, checkpoint = self._learner.version, self._config.checkpoint
        self._folder.metrics.write(version, self._metrics())
        if version % checkpoint.every_updates == 0:
            state = {"version": version, "progress": self._status.progress}
            self._learner.save(self._folder.path / "checkpoints", state, checkpoint.keep_last)

    def summary(self) -> TrainSummary:
        """The end of the run; the accounts must balance."""
        accounting = self._status.accounting
        assert accounting.complete and accounting.balanced, f"prompts unaccounted for: {accounting}"
        return TrainSummary(
            updates=self._learner.version,
            accounting=accounting,
            tally=self._tally,
            rerolled=self._status.rerolled,
            restarts=self._fleet.restarts,
            canary=self._fleet.canary,
        )

    def _roll_out(self, timeout_s: float, wake: Sequence[Any] = ()) -> None:
        self._tally.count(self._fleet.advance(self._exchange, timeout_s, wake))

    def _look(self) -> Status:
        self._status = self._exchange.status()
        seconds = time.monotonic() - self._started
        self._listener(Progress(status=self._status, tally=self._tally, version=self._learner.version, seconds=seconds))
        return self._status

    def _metrics(self) -> dict[str, float]:
        status, tally, accounting = self._status, self._tally, self._status.accounting
        now = time.monotonic()
        tokens_per_second = (tally.tokens_generated - self._recorded_tokens) / max(1e-9, now - self._recorded)
        clean = tally.clean - self._recorded_clean[0]
        clean_length = (tally.tokens_clean - self._recorded_clean[1]) / max(1, clean)
        self._recorded, self._recorded_tokens = now, tally.tokens_generated
        self._recorded_clean = (tally.clean, tally.tokens_clean)
        flow = {
            "progress": status.progress,
            "prompts_done": accounting.settled,
            "rpr_so_far": tally.rpr,
            "rpr_recent": 1 - status.confusion_rate,
            "groups_learned": accounting.confused,
            "groups_uninformative": accounting.uninformative,
            "groups_stale": accounting.stale,
            "prompts_rerolled": status.rerolled,
            "queue_depth": status.queue_depth,
            "tokens_generated": tally.tokens_generated,
            "tokens_discarded": tally.tokens_discarded,
            "tokens_per_second": tokens_per_second,
            "clean_length": clean_length,
            "policy_version": self._learner.version,
            "sync_bytes": self._sync_bytes,
            "canary": self._fleet.canary,
            "restarts": self._fleet.restarts,
            "rollout_busy": self._fleet.busy,
        }
        seconds = {f"seconds_{name}": value for name, value in tally.seconds.items()}
        learned: dict[str, float] = self._update.metrics()
        return flow | seconds | learned


class _Stopwatch:
    """Adds the wall time of its block to `seconds[name]`."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] += time.monotonic() - self._began
