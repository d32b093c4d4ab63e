"""TLPO's Algorithm 1 as a loop over three parts: exchange, rollout fleet, learner.

The parts come in two assemblies (`assembly.py`): `local` in this process, `distributed` in Ray. This loop cannot tell
them apart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tlpo_ray.config.run import RunConfig
from tlpo_ray.flow.errors import LearnerLostError
from tlpo_ray.flow.exchange import Snapshot, Status
from tlpo_ray.flow.ledger import Accounting
from tlpo_ray.flow.records import LotCounts
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.journal import Journal, State
from tlpo_ray.parts import Learner, Parts
from tlpo_ray.run_folder import RunFolder

logger = logging.getLogger(__name__)

T = TypeVar("T")

PHASES = ("collect", "update", "publish", "export")
POLL_S = 1.0
"""How long one look at fleet or learner may take before progress is shown again."""


@dataclass(slots=True)
class Tally:
    """What the loop has counted so far."""

    sampled: int = 0
    clean: int = 0
    tokens_generated: int = 0
    tokens_discarded: int = 0
    tokens_clean: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("collect", "update", "publish", "export"), 0.0)
    )

    def count(self, lots: Sequence[LotCounts]) -> None:
        for lot in lots:
            self.sampled += lot.sampled
            self.clean += lot.clean
            self.tokens_generated += lot.tokens_generated
            self.tokens_discarded += lot.tokens_discarded
            self.tokens_clean += lot.tokens_clean

    @property
    def clean_so_far(self) -> tuple[int, int]:
        """Clean answers and their tokens."""
        return self.clean, self.tokens_clean

    def as_json(self) -> dict[str, Any]:
        """For `restored`."""
        return asdict(self)

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
    """Of rollout actors."""
    learner_restarts: int
    exchange_restarts: int
    canary: float
    """Largest canary difference of any sync, nats."""


def train(
    config: RunConfig, parts: Parts, folder: RunFolder, listener: Listener, state: State | None = None
) -> TrainSummary:
    """Run until every prompt has its outcome.

    Args:
        state: where to go on; exchange, learner and fleet are there already.

    Raises:
        TlpoError: see `flow.errors`; the journal and what else was written stays, to go on from.
    """
    run = _Run(config, parts, folder, listener, state)
    while run.collect():  # answers, confusion points, candidate sets, lookahead rewards: Eq. 1 to 3
        if run.learn():  # advantages and p optimizer steps: Eq. 4 to 7
            run.publish()  # policy version v + 1 to every rollout actor
            run.record()
    run.export()
    return run.summary()


def recover(learner: Learner, journal: Journal, checkpoints: Path, until: int) -> None:
    """Bring a learner that has just started to a policy version: by the newest checkpoint, and the updates since.

    Raises:
        UserError: an update since then cannot be made again.
    """
    after = learner.restore(checkpoints, until)
    for update in journal.updates(after, until):
        learner.begin_update(update.payload, update.progress)
        while learner.poll_update(POLL_S) is None:
            pass


class _Run:
    """State and stages of the loop in `train`."""

    def __init__(
        self, config: RunConfig, parts: Parts, folder: RunFolder, listener: Listener, state: State | None
    ) -> None:
        self._config = config
        self._exchange, self._fleet, self._learner = parts.exchange, parts.fleet, parts.learner
        self._canary_context = parts.canary_context
        self._folder = folder
        self._listener = listener
        self._tally = Tally() if state is None else Tally(**state.tally)
        self._version = self._learner.version
        """Policy version of the last update that counts."""
        self._learner_restarts = 0
        self._started = self._recorded = time.monotonic()
        self._recorded_tokens, self._recorded_clean = self._tally.tokens_generated, self._tally.clean_so_far
        self._sync_bytes = 0
        self._update: Any = None
        self._payload = b""
        self._progress = 0.0
        self._snapshot: Snapshot | None = None
        self._published: WeightUpdate | None = None
        """A policy version that the fleet has not been told of."""
        self._status = parts.exchange.status()

    def collect(self) -> bool:
        """Roll out until the learner can take an update's groups; False when no prompt is left."""
        with _Stopwatch(self._tally.seconds, "collect"):
            while not self._look().ready:
                if self._status.finished:
                    return False
                self._roll_out(POLL_S)
                if self._fleet.weights_lost:
                    self._published = self._surely(lambda: self._learner.publish(self._canary_context))
        return True

    def learn(self) -> bool:
        """One update; with `max_staleness` above 0 the rollout actors go on meanwhile. False: there were no groups."""
        with _Stopwatch(self._tally.seconds, "update"):
            payload = self._exchange.take(self._version)
            if payload is None:
                return False
            self._payload, self._progress = payload, self._status.progress
            self._folder.journal.keep_groups(self._version + 1, payload)
            self._update = self._surely(self._updated)
            self._snapshot = self._exchange.learned(self._version + 1)
        return True

    def publish(self) -> None:
        """Hand the learner's policy version to the fleet; each actor loads it when it is next free."""
        with _Stopwatch(self._tally.seconds, "publish"):
            update = self._surely(lambda: self._learner.publish(self._canary_context))
            self._sync_bytes = update.steps[-1].nbytes if update.steps else 0
            self._published = update

    def record(self) -> None:
        """Make the update count: metrics, journal, experiences; a checkpoint when it is time."""
        assert self._snapshot is not None
        self._look()
        version, folder = self._version + 1, self._folder
        folder.metrics.write(version, self._metrics())
        folder.journal.commit(
            State(version=version, progress=self._progress, exchange=self._snapshot, tally=self._tally.as_json())
        )
        self._version = version
        folder.keep_experiences(version, self._payload)
        if version % self._config.checkpoint.every_updates == 0:
            self._surely(self._checkpoint)

    def export(self) -> None:
        """The trained policy, as a Hugging Face model folder, and to the fleet, which may be asked for answers."""
        with _Stopwatch(self._tally.seconds, "export"):
            self._surely(lambda: self._learner.export(self._folder.path / "model"))
        self._hand_out()

    def summary(self) -> TrainSummary:
        """The end of the run; the accounts must balance."""
        accounting = self._status.accounting
        assert accounting.complete and accounting.balanced, f"prompts unaccounted for: {accounting}"
        return TrainSummary(
            updates=self._version,
            accounting=accounting,
            tally=self._tally,
            rerolled=self._status.rerolled,
            restarts=self._fleet.restarts,
            learner_restarts=self._learner_restarts,
            exchange_restarts=self._exchange.restarts,
            canary=self._fleet.canary,
        )

    def _hand_out(self) -> None:
        if self._published is not None:
            self._fleet.publish(self._published)
            self._published = None

    def _updated(self) -> Any:
        """The update's report."""
        self._learner.begin_update(self._payload, self._progress)
        overlap = self._config.flow.max_staleness > 0
        while (update := self._learner.poll_update(0.0 if overlap else POLL_S)) is None:
            if overlap:
                self._roll_out(POLL_S, self._learner.unfinished)
            self._look()
        return update

    def _checkpoint(self) -> None:
        state = {"version": self._version, "progress": self._status.progress}
        oldest = self._learner.save(self._folder.checkpoints, state, self._config.checkpoint.keep_last)
        self._folder.prune_journal(oldest)

    def _surely(self, act: Callable[[], T]) -> T:
        """Do something with the learner. When a rank is lost, all start again, come back to where they were, and do it.

        Raises:
            LearnerLostError: that has happened more often than `flow.max_restarts`.
        """
        there = self._learner.version
        while True:
            try:
                self._come_back(there)
                return act()
            except LearnerLostError as error:
                if self._learner_restarts >= self._config.flow.max_restarts:
                    raise LearnerLostError(
                        f"{error}; all {self._config.flow.max_restarts} restarts (flow.max_restarts) are used up"
                    ) from error
                self._learner_restarts += 1
                logger.warning("the learner group is started again: %s", error)
                self._learner.restart()

    def _come_back(self, version: int) -> None:
        """Bring the learner to the policy version that it had."""
        if self._learner.version != version:
            recover(self._learner, self._folder.journal, self._folder.checkpoints, self._version)
        if self._learner.version != version:  # the last update was made, but does not count yet
            self._updated()

    def _roll_out(self, timeout_s: float, wake: Sequence[Any] = ()) -> None:
        accounting = self._status.accounting
        if accounting.waiting or accounting.leased:  # else nobody needs it, yet or any more
            self._hand_out()
        self._tally.count(self._fleet.advance(self._exchange, timeout_s, wake))

    def _look(self) -> Status:
        self._status = self._exchange.status()
        seconds = time.monotonic() - self._started
        self._listener(Progress(status=self._status, tally=self._tally, version=self._learner.version, seconds=seconds))
        if (wanted := self._folder.outside.wanted()) is not None:
            self._fleet.resize(wanted)
        self._folder.outside.tell(self._told(seconds))
        return self._status

    def _told(self, seconds: float) -> dict[str, Any]:
        """For who looks from outside."""
        accounting = self._status.accounting
        return {
            "policy_version": self._learner.version,
            "prompts": accounting.total,
            "prompts_done": accounting.settled,
            "rpr_so_far": round(self._tally.rpr, 4),
            "rpr_recent": round(1 - self._status.confusion_rate, 4),
            "queue_depth": self._status.queue_depth,
            "tokens_generated": self._tally.tokens_generated,
            "seconds": round(seconds, 1),
            "rollout_actors": self._fleet.states,
            "rollout_actors_wanted": self._fleet.size,
            "restarts": {
                "rollout_actors": self._fleet.restarts,
                "learner": self._learner_restarts,
                "exchange": self._exchange.restarts,
            },
        }

    def _metrics(self) -> dict[str, float]:
        status, tally, accounting = self._status, self._tally, self._status.accounting
        now = time.monotonic()
        tokens_per_second = (tally.tokens_generated - self._recorded_tokens) / max(1e-9, now - self._recorded)
        clean = tally.clean - self._recorded_clean[0]
        clean_length = (tally.tokens_clean - self._recorded_clean[1]) / max(1, clean)
        self._recorded, self._recorded_tokens = now, tally.tokens_generated
        self._recorded_clean = tally.clean_so_far
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
            "learner_restarts": self._learner_restarts,
            "exchange_restarts": self._exchange.restarts,
            "rollout_actors": self._fleet.size,
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
