"""TLPO's Algorithm 1 as a loop over three parts: exchange, rollout fleet, learner.

The parts come in two assemblies (`assembly.py`): `local` in this process, `distributed` in Ray. This loop cannot tell
them apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import LearnerLostError
from tlpo_ray.flow.exchange import Snapshot, Status
from tlpo_ray.flow.ledger import Accounting
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.run.components import Learner, Parts
from tlpo_ray.run.counters import Tally, stopwatch
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.journal import Journal, State
from tlpo_ray.run.reporter import Teller

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 1.0
"""How long one look at fleet or learner may take before progress is shown again."""
IN_A_ROW = 3
"""Restarts of the learner group over one and the same thing, after which another would not help either."""


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
        self._teller = Teller(parts, folder, self._tally)
        self._update: Any = None
        self._payload = b""
        self._progress = 0.0
        self._snapshot: Snapshot | None = None
        self._counted: dict[str, Any] = {}
        """What was counted when the snapshot was taken."""
        self._published: WeightUpdate | None = None
        """A policy version that the fleet has not been told of."""
        self._publisher = 0
        """Life of the learner group that holds the weights published last."""
        self._status = parts.exchange.status()

    def collect(self) -> bool:
        """Roll out until the learner can take an update's groups; False when no prompt is left."""
        with stopwatch(self._tally.seconds, "collect"):
            while not self._look().ready:
                if self._status.finished:
                    return False
                self._surely(lambda: self._roll_out(POLL_S))
                if self._fleet.weights_lost:
                    self._published = self._publication()
        return True

    def learn(self) -> bool:
        """One update; with `max_staleness` above 0 the rollout actors go on meanwhile. False: there were no groups."""
        with stopwatch(self._tally.seconds, "update"):
            payload = self._exchange.take(self._version)
            if payload is None:
                return False
            self._payload, self._progress = payload, self._status.progress
            self._folder.journal.keep_groups(self._version + 1, payload)
            self._update = self._surely(self._updated)
            self._snapshot, self._counted = self._exchange.mark_learned(self._version + 1), self._teller.counted()
        return True

    def publish(self) -> None:
        """Hand the learner's policy version to the fleet; each actor loads it when it is next free."""
        with stopwatch(self._tally.seconds, "publish"):
            self._published = update = self._publication()
            self._teller.sync_bytes = update.steps[-1].nbytes if update.steps else 0

    def record(self) -> None:
        """Make the update count: metrics, journal, experiences; a checkpoint when it is time."""
        assert self._snapshot is not None
        self._look()
        version, folder = self._version + 1, self._folder
        self._teller.record(version, self._status, self._update)
        folder.journal.commit(
            State(version=version, progress=self._progress, exchange=self._snapshot, tally=self._counted)
        )
        self._version = version
        folder.keep_experiences(version, self._payload)
        if version % self._config.checkpoint.every_updates == 0:
            self._surely(self._checkpoint)

    def export(self) -> None:
        """The trained policy, as a Hugging Face model folder, and to the fleet, which may be asked for answers."""
        with stopwatch(self._tally.seconds, "export"):
            self._surely(lambda: self._learner.export(self._folder.path / "model"))
            if self._teller.learner_restarts != self._publisher:
                self._published = self._publication()
        self._hand_out()

    def summary(self) -> TrainSummary:
        """The end of the run; the accounts must balance."""
        accounting = self._status.accounting
        self._teller.look(self._status, last=True)
        assert accounting.complete and accounting.balanced, f"prompts unaccounted for: {accounting}"
        return TrainSummary(
            updates=self._version,
            accounting=accounting,
            tally=self._tally,
            rerolled=self._status.rerolled,
            **self._teller.troubles(),
        )

    def _publication(self) -> WeightUpdate:
        update = self._surely(lambda: self._learner.publish(self._canary_context))
        self._publisher = self._teller.learner_restarts
        return update

    def _hand_out(self) -> None:
        if self._published is not None:
            self._fleet.publish(self._published)
            self._published = None

    def _updated(self) -> Any:
        """The update's report."""
        if self._config.cluster.colocated:
            self._fleet.sleep()
        self._learner.begin_update(self._payload, self._progress)
        overlap = self._config.flow.max_staleness > 0
        while (update := self._learner.poll_update(0.0 if overlap else POLL_S)) is None:
            if overlap:
                self._roll_out(POLL_S, self._learner.unfinished)
            self._look()
        return update

    def _checkpoint(self) -> None:
        oldest = self._learner.save(
            self._folder.checkpoints, {"version": self._version}, self._config.checkpoint.keep_last
        )
        self._folder.prune_journal(oldest)

    def _surely(self, act: Callable[[], T]) -> T:
        """Do something with the learner. When a rank is lost, all start again, come back to where they were, and do it.

        Raises:
            LearnerLostError: that has happened more often than `flow.max_restarts`, or comes again each time.
        """
        there, lost = self._learner.version, 0
        while True:
            try:
                if lost:
                    self._learner.restart()
                self._come_back(there)
                return act()
            except LearnerLostError as error:
                if self._teller.learner_restarts >= self._config.flow.max_restarts:
                    raise LearnerLostError(
                        f"{error}; all {self._config.flow.max_restarts} restarts (flow.max_restarts) are used up"
                    ) from error
                if lost == IN_A_ROW:
                    raise LearnerLostError(f"{error}; that came again after each of {lost} restarts") from error
                self._teller.learner_restarts += 1
                logger.warning("the learner group is started again: %s", error)
                lost += 1

    def _come_back(self, version: int) -> None:
        """Bring the learner to the policy version that it had."""
        if self._learner.version != version:
            if self._config.cluster.colocated:
                self._fleet.sleep()
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
        version, seconds = self._learner.version, self._teller.seconds
        self._listener(Progress(status=self._status, tally=self._tally, version=version, seconds=seconds))
        if (wanted := self._folder.outside.wanted()) is not None:
            self._fleet.resize(wanted)
        self._teller.look(self._status)
        return self._status
