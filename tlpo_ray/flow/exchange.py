"""Where rollout actors and learner meet: prompt ledger and experience queue behind one interface.

The results of a batch are entered and its candidate groups are admitted in one call. A prompt is therefore never
learned from twice and never lost, whichever process dies.

A *holder* is one incarnation of a rollout actor: the actor's name including its restart count, e.g. `rollout-2.1`. A
restarted actor is another holder, so late results of its predecessor are not accepted.

Prompts are leased in *windows*. A window is just large enough, by the yield so far, for the groups that the learner can
take in time. `max_staleness` decides when the next one opens:

* 0: when all results of the last one are in and, if its groups fill an update, that update has been made. Neither the
  number of rollout actors nor their speed changes what is learned. The prompts of surplus groups are rolled out again
  by the next policy version.
* above 0: as soon as the last one is used up. Prompts that are leased, and groups that are queued, make it smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from tlpo_ray.errors import RecordError
from tlpo_ray.flow.curriculum import EXCLUDED, Curriculum
from tlpo_ray.flow.ledger import Accounting, PromptLedger
from tlpo_ray.flow.queue import CandidateQueue
from tlpo_ray.flow.recent_share import RecentShare
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, decode_table, encode
from tlpo_ray.flow.truncation import Truncation

CONFUSED_OUTCOMES = frozenset({Outcome.CONFUSED, Outcome.UNINFORMATIVE})
"""Outcomes of answers with confusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """State of the exchange in numbers."""

    accounting: Accounting
    queue_depth: int
    """Candidate groups that wait for the learner."""
    queue_oldest_s: float
    """Seconds that the group admitted first has waited."""
    ready: bool
    """Whether the learner can take the groups of an update."""
    finished: bool
    """Whether every prompt has its outcome."""
    progress: float
    """Share of the run's prompts that have their outcome, of those not skipped at load, 0 to 1; drives the learning
    rate."""
    confusion_rate: float
    """Share of answers with confusion among the answers to the last few hundred prompts."""
    rerolled: int
    """Surplus groups dropped at staleness 0; their prompts are rolled out again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that is needed to restore an exchange."""

    state: dict[str, Any]
    """JSON values: ledger, shares, and the prompts of the groups that the learner has taken."""
    queue: bytes
    """Waiting candidate groups as an Arrow stream."""


class ExchangeSettings(TypedDict):
    """Keyword arguments of `Exchange` that come from the run's configuration."""

    groups_per_update: int
    lease_size: int
    capacity: int
    max_staleness: int
    curriculum: NotRequired[Curriculum | None]
    truncation: NotRequired[Truncation | None]


class Exchange:
    """Leases prompts, admits candidate groups, hands them to the learner, and accounts for every prompt.

    Args:
        prompts: All prompts of the run, in the run's order.
        skipped: Number of prompts that never entered the run, by reason.
        groups_per_update: Candidate groups, one per confusion point, that the learner takes at a time.
        lease_size: Maximum number of prompts in a batch.
        capacity: Limit of the queue, in groups; must not be below `groups_per_update`. For `max_staleness` above 0 it
            is a soft limit: no prompts are leased while it is reached, but batches under way may still exceed it.
        max_staleness: Maximum number of policy versions by which a group may be older than the learner's.
        curriculum: Selects the prompts to roll out; None rolls out all of them.
        truncation: Decides which answers are cut short; None cuts none.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        skipped: Mapping[str, int],
        *,
        groups_per_update: int,
        lease_size: int,
        capacity: int,
        max_staleness: int,
        curriculum: Curriculum | None = None,
        truncation: Truncation | None = None,
    ) -> None:
        self._curriculum = curriculum
        self._truncation = truncation
        self._ledger = PromptLedger(prompts, skipped)
        self._queue = CandidateQueue(capacity, max_staleness)
        self._yield = RecentShare(1.0, 4.0)
        """Share of the prompts that yielded a candidate group; starts as if one of four had."""
        self._confusion = RecentShare()
        """Share of the answers that had confusion, including those from which nothing can be learned."""
        self._groups_per_update = groups_per_update
        self._lease_size = lease_size
        self._max_staleness = max_staleness
        self._capacity = capacity
        self._window = 0
        """Number of prompts in the current window."""
        self._window_left = 0
        """Number of those that have not been leased yet."""
        self._in_learning: list[int] = []
        """Prompt indices of the groups that the learner has taken and not yet learned from."""
        self._rerolled = 0

    num_restarts = 0
    """Number of restarts; always 0, because an exchange in the driver's process dies with the run."""

    def lease(self, holder: str, num_actors: int) -> list[Prompt]:
        """Lease the prompts of one batch.

        Args:
            holder: Holder that will roll them out.
            num_actors: Actors expected to lease in this window, which is divided evenly among them.

        Returns:
            The prompts. Empty if no prompts may be leased now (window exhausted, queue full, or none left).
        """
        if self._max_staleness > 0 and self._queue.full:
            return []
        if not self._window_left:
            self._open_window()
        limit = min(self._lease_size, math.ceil(self._window / max(1, num_actors)), self._window_left)
        batch = self._lease_selected(holder, limit)
        self._window_left = min(self._window_left - len(batch), self._ledger.waiting)
        return batch

    def _lease_selected(self, holder: str, limit: int) -> list[Prompt]:
        """Lease up to `limit` prompts that the curriculum selects; prompts that it excludes are settled as skipped."""
        if self._curriculum is None:
            return self._ledger.lease(holder, limit)
        selected: list[Prompt] = []
        while (wanted := limit - len(selected)) > 0:
            batch = self._ledger.lease(holder, wanted, len(selected))
            excluded: list[PromptResult] = []
            for prompt in batch:
                if self._curriculum.selects(prompt):
                    selected.append(prompt)
                else:
                    excluded.append(PromptResult(prompt_index=prompt.index, outcome=Outcome.SKIPPED, reason=EXCLUDED))
            self._ledger.settle(holder, excluded)
            if len(batch) < wanted:  # no other prompt waits, or one of these must not be in a larger batch
                break
        return selected

    def submit(
        self, holder: str, results: Sequence[PromptResult], payload: bytes, learner_version: int
    ) -> tuple[PromptResult, ...]:
        """Enter a finished batch: outcomes into the ledger, candidate groups into the queue.

        Args:
            holder: Holder that leased the prompts.
            results: One outcome per prompt of the batch.
            payload: Arrow stream of the candidate groups, one per confused prompt.
            learner_version: Policy version that the fleet was given last, not counting an update under way; groups
                that are older by more than `max_staleness` versions are dropped as stale.

        Returns:
            The results that were accepted: those of prompts that `holder` still held.

        Raises:
            RecordError: The payload is not an Arrow stream of candidate groups, or its groups are not those of the
                confused prompts; nothing was entered.
        """
        table = decode_table(payload)
        reported = sorted(result.prompt_index for result in results if result.outcome is Outcome.CONFUSED)
        # A confused prompt without a group would stay queued for ever, so check before anything is entered.
        if sorted(table.column("prompt_index").to_pylist()) != reported:
            raise RecordError(
                f"{holder} submitted candidate groups for prompts other than those it reports as confused"
            )
        accepted = self._ledger.settle(holder, results)
        confused = {result.prompt_index for result in accepted if result.outcome is Outcome.CONFUSED}
        rolled_out = sum(result.outcome is not Outcome.SKIPPED for result in accepted)
        self._yield.observe(len(confused), rolled_out)
        self._observe_confusion(accepted)
        if self._curriculum is not None:
            for result in accepted:
                if result.outcome is not Outcome.SKIPPED:
                    self._curriculum.observe(self._ledger.prompt(result.prompt_index), result.prompt_index in confused)
        for rows in table.to_batches():
            keep = [index in confused for index in rows.column("prompt_index").to_pylist()]
            stale = self._queue.admit(rows.filter(keep), learner_version)
            self._ledger.close_queued(stale, Outcome.STALE)
        return tuple(accepted)

    def _observe_confusion(self, results: Sequence[PromptResult]) -> None:
        """Count the answers with confusion, and all answers, without those that were to be cut short."""
        outcomes = [
            result.outcome
            for result in results
            if result.outcome is not Outcome.SKIPPED
            and not (self._truncation is not None and self._truncation.applies_to(result.prompt_index))
        ]
        self._confusion.observe(sum(outcome in CONFUSED_OUTCOMES for outcome in outcomes), len(outcomes))

    def release(self, holder: str, halve: bool = False) -> int:
        """Release the leases of a holder that is gone, so that the prompts can be leased again.

        Args:
            holder: Holder that leased them.
            halve: Whether its batches may have been too large: each prompt's next batch is at most half as large.

        Returns:
            Number of prompts released.
        """
        released = self._ledger.release(holder, halve)
        # They return to the current window. At staleness 0 the update waits for their results, and no other window
        # opens before it.
        self._window_left += released
        self._window = max(self._window, self._window_left)
        return released

    def take(self, learner_version: int) -> bytes | None:
        """Return the next update's groups as an Arrow stream, or None if there are not enough.

        `mark_learned` must follow before the next call.

        Args:
            learner_version: Policy version before the update; groups that are too old for it are dropped as stale.
        """
        assert not self._in_learning, "the groups of the last update have not been marked as learned"
        # Groups may have become stale since `status` reported that the exchange was ready.
        self._ledger.close_queued(self._queue.expire(learner_version), Outcome.STALE)
        if not self._ready():
            return None
        self._in_learning, payload = self._queue.take(self._groups_per_update)
        if self._max_staleness == 0:
            surplus = self._queue.clear()
            self._rerolled += self._ledger.requeue(surplus)
        return payload

    def take_with_snapshot(self, learner_version: int) -> tuple[bytes | None, Snapshot]:
        """Call `take`, and return a snapshot with its result.

        The snapshot leaves out the queued groups: they are large, and the next `mark_learned` returns a complete one.
        """
        payload = self.take(learner_version)
        return payload, self.snapshot(with_queue=False)

    def mark_learned(self, learner_version: int) -> Snapshot:
        """Record that the groups returned by the last `take` have been trained on, and return the state after that.

        Args:
            learner_version: Policy version that the update made.
        """
        self._ledger.close_queued(self._in_learning, Outcome.CONFUSED)
        self._in_learning = []
        self._ledger.close_queued(self._queue.expire(learner_version), Outcome.STALE)
        return self.snapshot()

    def status(self) -> Status:
        """Return the state of ledger and queue in numbers."""
        accounting, never_entered = self._ledger.accounting(), self._ledger.never_entered
        return Status(
            accounting=accounting,
            queue_depth=len(self._queue),
            queue_oldest_s=self._queue.oldest_s,
            ready=self._ready(),
            finished=accounting.complete,
            progress=(accounting.settled - never_entered) / max(1, accounting.total - never_entered),
            confusion_rate=self._confusion.share,
            rerolled=self._rerolled,
        )

    def snapshot(self, *, with_queue: bool = True) -> Snapshot:
        """Return everything that outlives this process.

        Leased prompts wait again in it, because nothing is known about their batches. Groups that the learner has taken
        stay in learning.

        Args:
            with_queue: Include the waiting candidate groups; without them, their prompts wait to be rolled out again.
        """
        state = {
            "ledger": self._ledger.snapshot(() if with_queue else self._queue.prompts()),
            "yield": self._yield.snapshot(),
            "confusion": self._confusion.snapshot(),
            "in_learning": self._in_learning,
            "rerolled": self._rerolled,
            "curriculum": None if self._curriculum is None else self._curriculum.snapshot(),
        }
        return Snapshot(state=state, queue=self._queue.content() if with_queue else encode([]))

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the state of the exchange that returned this snapshot.

        Raises:
            UserError: The snapshot belongs to other prompts.
        """
        state = snapshot.state
        self._ledger.restore(state["ledger"])
        self._yield = RecentShare.restored(state["yield"])
        self._confusion = RecentShare.restored(state["confusion"])
        self._in_learning = list(state["in_learning"])
        self._rerolled = state["rerolled"]
        # Earlier releases called the curriculum a focus.
        curriculum = state["curriculum"] if "curriculum" in state else state["focus"]
        if self._curriculum is not None and curriculum is not None:
            self._curriculum.restore(curriculum)
        self._queue.clear()
        for rows in decode_table(snapshot.queue).to_batches():
            self._queue.admit(rows, 0)  # version 0 admits all; `take` drops those that are stale by then
        self._window = self._window_left = 0

    def _ready(self) -> bool:
        ledger, queue = self._ledger, self._queue
        # Strictly on-policy, an update waits for its complete window: which groups it takes must not depend on timing.
        if self._max_staleness == 0 and (self._window_left or ledger.leased):
            return False
        all_rolled_out = not (ledger.waiting or ledger.leased)
        return len(queue) >= self._groups_per_update or (all_rolled_out and len(queue) > 0)

    def _open_window(self) -> None:
        """Open the next window, if it is time: the prompts expected to yield the groups that are still missing.

        Missing are those that the learner could take before they are too old, and that the queue has room for.
        """
        on_policy = self._max_staleness == 0
        if on_policy and (self._ledger.leased or self._ready() or self._in_learning):
            return
        self._yield.fold()
        self._confusion.fold()
        if self._curriculum is not None:
            self._curriculum.fold()
        missing = min(self._groups_per_update * (self._max_staleness + 1), self._capacity) - len(self._queue)
        size = math.ceil(missing / self._yield.expected) - self._ledger.leased
        self._window = self._window_left = max(0, min(size, self._ledger.waiting))
