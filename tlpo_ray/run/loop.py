"""Algorithm 1 of the paper as a loop over three components: exchange, rollout fleet, learner group.

The components come in two assemblies (`build.py`): `local` in this process, `distributed` in Ray. The loop does
not know which it has.

| stage        | consumes                     | produces                          | waits for             |
|--------------|------------------------------|-----------------------------------|-----------------------|
| collect      | prompts, leased by the fleet | `Batch`: groups of one update     | enough queued groups  |
| learn        | `Batch`                      | `TrainStep`: policy version v + 1 | all learner ranks     |
| sync_weights | weights of version v + 1     | `WeightUpdate` for the fleet      | the learner's export  |
| record       | `TrainStep`                  | committed journal entry of v + 1  | disk                  |

Actors load the new weights during the next `collect`, or, with `max_staleness` above 0, also during the next `learn`:
each as soon as it is free. Broadcast weights are loaded by all actors together, between two updates.

**Why a crash at any line is safe.** A version is committed once the journal holds its state, and that is written last:

1. `collect` takes groups out of the queue. The exchange's snapshot lists them as being trained on, so a restarted
   exchange neither hands them out again nor loses their prompts.
2. `learn` journals the groups before the update begins. A learner that is lost during or after the update restores the
   last checkpoint, replays the journalled updates since, and repeats this one from the same groups.
3. `learn` ends with `mark_learned`, which returns the exchange's state in the same call: what the journal gets is
   exactly the state after the update, even if the exchange's process dies right then.
4. `record` commits v + 1 with one file: counters, exchange state, learning-rate progress, and the digests of the files
   with groups and queue. If the driver dies before that, a resumed run starts at v and makes v + 1 again. Only after it
   may a checkpoint prune the journal.

Checkpoints are written while the loop continues, from a copy of the learner's state; the journal is pruned when one is
complete, and until then the one before it counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import StoppedError, TlpoError
from tlpo_ray.flow.exchange import Snapshot
from tlpo_ray.flow.ledger import Accounting
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.progress import TrainingProgress
from tlpo_ray.run.checkpoints import Checkpoints
from tlpo_ray.run.components import Components
from tlpo_ray.run.counters import Incidents, RunCounters, stopwatch
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.journal import State
from tlpo_ray.run.recovery import POLL_S, LearnerRecovery, Poll
from tlpo_ray.run.reporter import RunReporter
from tlpo_ray.stopping import check_stop, last_work

if TYPE_CHECKING:
    from learner.report import UpdateReport

logger = logging.getLogger(__name__)

T = TypeVar("T")
Listener = Callable[[TrainingProgress], None]
LAST_CHECKPOINT_S = 15.0
"""Time after a signal until which a checkpoint may be written, in seconds; the rest of `stopping.GRACE_S` is enough to
end all processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """Totals of a run that has ended."""

    updates: int
    accounting: Accounting
    counters: RunCounters
    rerolled: int
    """Surplus groups that were dropped at staleness 0; their prompts were rolled out again."""
    incidents: Incidents
    """Restarts and the largest canary difference, including those before the run was resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The candidate groups of one update."""

    version: int
    """Policy version that the update will make."""
    groups: bytes
    """Arrow stream of the groups."""
    progress: float
    """Fraction of the prompts that had their outcome when the groups were taken, 0 to 1: sets the learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep:
    """One update of the policy (p optimizer steps), and the run's state right after it."""

    batch: Batch
    report: UpdateReport
    snapshot: Snapshot
    """The exchange right after the update."""
    counters: dict[str, Any]
    """The run's counters at that moment, as JSON values."""


def train(
    config: RunConfig,
    components: Components,
    folder: RunFolder,
    listener: Listener = lambda progress: None,
    state: State | None = None,
) -> TrainSummary:
    """Run until every prompt has its outcome.

    Args:
        config: The run's configuration.
        components: Exchange, fleet and learner, started.
        folder: The run's folder.
        listener: Receives the state of the run about once per second.
        state: Where to resume; exchange, learner and fleet are already at that state. None starts at the beginning.

    Raises:
        StoppedError: A signal has come.
        TlpoError: See `tlpo_ray.errors`. The journal and everything else written so far stays, to be resumed from.
    """
    run = _Run(config, components, folder, listener, state)
    try:
        while (batch := run.collect()) is not None:  # answers, confusion points, candidate sets, rewards: Eq. 1 to 3
            step = run.learn(batch)  # advantages and p optimizer steps: Eq. 4 to 7
            run.sync_weights(step)  # policy version v + 1, which the fleet loads with its next prompts
            run.record(step)  # commits version v + 1
        run.export()
        run.finish_checkpoint()
    except StoppedError:
        run.save_before_end()
        raise
    except TlpoError:
        components.on_failure()
        raise
    return run.summary()


class _Run:
    """State and stages of the loop in `train`."""

    def __init__(
        self,
        config: RunConfig,
        components: Components,
        folder: RunFolder,
        listener: Listener,
        state: State | None,
    ) -> None:
        self._config = config
        self._exchange, self._fleet, self._learner = components.exchange, components.fleet, components.learner
        self._canary_context = components.canary_context
        self._folder = folder
        self._listener = listener
        self._counters = RunCounters() if state is None else RunCounters.from_json(state.counters)
        self._tokens_before = self._counters.rollouts.tokens_generated
        """Tokens sampled before the run was resumed."""
        self.version = self._learner.version
        """Policy version of the last committed update."""
        self._reporter = RunReporter(components, folder, self._counters)
        self._uncommitted: Batch | None = None
        """The update that was begun and is not committed yet: a restarted learner has to repeat it."""
        self._exported: WeightUpdate | None = None
        """Weights that were exported and not yet handed to the fleet."""
        self._restarts_at_export = 0
        """Learner restarts at the last export; if there were more since, the exported weights are gone."""
        self._checkpoints = Checkpoints(self._learner, folder, config.checkpoint, self.version)
        self._recovery = LearnerRecovery(self._learner, folder, self._checkpoints, self)
        self._status = components.exchange.status()

    def collect(self) -> Batch | None:
        """Roll out until there are groups for an update, and take them; None when no prompt is left."""
        with stopwatch(self._counters.seconds, "collect"):
            while True:
                self._poll_status()
                if self._status.ready:
                    groups = self._exchange.take(self.version)
                    if groups is not None:  # otherwise too many of them had become stale
                        return Batch(version=self.version + 1, groups=groups, progress=self._status.progress)
                elif self._status.finished:
                    return None
                else:
                    self._recovery.run(lambda: self._roll_out(POLL_S))
                    if self._fleet.weights_lost:
                        self._exported = self._export_weights()

    def learn(self, batch: Batch) -> TrainStep:
        """Make one update; with `max_staleness` above 0 the rollout actors keep working meanwhile."""
        with stopwatch(self._counters.seconds, "update"):
            self._folder.journal.write_groups(batch.version, batch.groups)
            self._uncommitted = batch
            report = self._recovery.run(lambda: self._run_update(batch))
            snapshot = self._exchange.mark_learned(batch.version)
            counters = self._counters.to_json(self._reporter.incidents())
        return TrainStep(batch=batch, report=report, snapshot=snapshot, counters=counters)

    def sync_weights(self, step: TrainStep) -> None:
        """Export the new policy version as the one that the fleet rolls out with next."""
        with stopwatch(self._counters.seconds, "publish"):
            self._exported = update = self._export_weights()
            assert update.version == step.batch.version
            self._reporter.sync_bytes = update.deltas[-1].nbytes if update.deltas else 0

    def record(self, step: TrainStep) -> None:
        """Commit the update: metrics, journal, experiences; begin a checkpoint when one is due."""
        batch, folder = step.batch, self._folder
        self._poll_status()
        self._reporter.record(batch.version, self._status, step.report)
        folder.journal.commit(
            State(version=batch.version, progress=batch.progress, exchange=step.snapshot, counters=step.counters)
        )
        self.version, self._uncommitted = batch.version, None
        folder.keep_experiences(batch.version, batch.groups)
        self._recovery.run(self._checkpoints.poll)
        if self._checkpoints.is_due(batch.version):
            self._recovery.run(lambda: self._checkpoints.begin(batch.version))
        if self._learner.is_draining:
            self._recovery.move()
            self._exported = self._export_weights()

    def export(self) -> None:
        """Write the trained policy as a Hugging Face model folder; hand it to the fleet for an evaluation."""
        with stopwatch(self._counters.seconds, "export"):
            self._recovery.run(lambda: self._learner.export(self._folder.path / "model"))
            if self._recovery.restarts != self._restarts_at_export:
                self._exported = self._export_weights()
        self._push_weights()

    def finish_checkpoint(self) -> None:
        """Wait for a checkpoint that is being written."""
        self._recovery.run(lambda: self._checkpoints.poll(wait=True))

    def save_before_end(self) -> None:
        """Write a checkpoint after a signal, if there is time: the resumed run then has no update to repeat.

        Not while an update is under way, whose weights are not those of a committed version. If it is not complete in
        time, it is left behind like that of a run that dies, and the journal has everything.
        """
        if self._uncommitted is not None or self._learner.version != self.version:
            return
        with suppress(StoppedError, TlpoError), last_work(LAST_CHECKPOINT_S):
            self._checkpoints.poll(wait=True)
            has_time = self._checkpoints.seconds < LAST_CHECKPOINT_S and not self._config.cluster.colocated
            if has_time and self._checkpoints.saved < self.version:
                self._checkpoints.begin(self.version)
                self._checkpoints.poll(wait=True)

    def summary(self) -> TrainSummary:
        """Return the totals; every prompt must be accounted for."""
        accounting = self._status.accounting
        self._reporter.update(self._status, final=True)
        assert accounting.complete and accounting.balanced, f"prompts unaccounted for: {accounting}"
        return TrainSummary(
            updates=self.version,
            accounting=accounting,
            counters=self._counters,
            rerolled=self._status.rerolled,
            incidents=self._reporter.incidents(),
        )

    def _export_weights(self) -> WeightUpdate:
        update = self._recovery.run(lambda: self._learner.export_weights(self._canary_context))
        self._restarts_at_export = self._recovery.restarts
        return update

    def _push_weights(self) -> None:
        """Hand exported weights to the fleet, whose actors load them when they are free."""
        if self._exported is not None:
            self._fleet.sync_weights(self._exported)
            self._exported = None

    def wait_for_lost_learner(self, poll: Poll[T]) -> T:
        """Wait for a learner that is coming back; rollout actors keep working as they do during an update.

        Not if weights are broadcast, for which actors would wait for the ranks that are not there.
        """
        flow = self._config.flow
        return self._poll_learner(poll, overlap=flow.max_staleness > 0 and flow.weight_transfer == "object_store")

    def make_room(self) -> None:
        """Put the rollout actor to sleep if it shares the learner's GPU."""
        if self._config.cluster.colocated:
            self._fleet.sleep()

    def repeat_update(self) -> None:
        """Make the update again that was begun and is not committed yet."""
        assert self._uncommitted is not None
        self._run_update(self._uncommitted)

    def _run_update(self, batch: Batch) -> UpdateReport:
        self.make_room()
        self._learner.begin_update(batch.groups, batch.progress)
        return self._poll_learner(self._learner.poll_update, overlap=self._config.flow.max_staleness > 0)

    def _poll_learner(self, poll: Poll[T], *, overlap: bool) -> T:
        """Wait for the learner; with `overlap`, the rollout actors keep working meanwhile."""
        while (result := poll(0.0 if overlap else POLL_S)) is None:
            if overlap:
                self._roll_out(POLL_S, self._learner.pending)
            self._poll_status()
        return result

    def _roll_out(self, timeout_s: float, wake: Sequence[Any] = ()) -> None:
        accounting = self._status.accounting
        if accounting.waiting or accounting.leased:  # otherwise no actor needs the weights, yet or any more
            self._push_weights()
        self._counters.rollouts += self._fleet.advance(timeout_s, wake)

    def _poll_status(self) -> None:
        """Update the status, report it, and obey a request of `tlpo scale`, or a signal."""
        check_stop()
        self._status = self._exchange.status()
        rollouts, accounting = self._counters.rollouts, self._status.accounting
        self._listener(
            TrainingProgress(
                prompts=accounting.total,
                settled=accounting.settled,
                leased=accounting.leased,
                queue_depth=self._status.queue_depth,
                confusion_rate=self._status.confusion_rate,
                rpr=rollouts.rpr,
                version=max(self.version, self._learner.version),  # a learner that was restarted begins at 0
                tokens_generated=rollouts.tokens_generated - self._tokens_before,
                seconds=self._reporter.seconds,
                slow=tuple(self._reporter.slow),
            )
        )
        self._apply_scale_request()
        self._reporter.update(self._status)

    def _apply_scale_request(self) -> None:
        if (size := self._folder.control.requested_actors()) is not None:
            self._fleet.resize(size)
