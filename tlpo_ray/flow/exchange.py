"""Where rollout actors and learner meet: ledger and queue behind one door.

A lot's results are entered and its groups admitted in one call, so a prompt is never learned from twice and never
lost, whoever dies. The exchange also decides how many prompts may be out at a time:

* `max_staleness` 0: prompts go out in *windows* just large enough, by the confusion rate so far, to fill one update.
  The next window opens when every result of the last is in, so neither the number of rollout actors nor their
  speed changes what is learned. Groups beyond the update wait to be rolled out again by the next policy version.
* otherwise: prompts go out as long as the groups they may yield can still be learned from in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tlpo_ray.errors import RecordError
from tlpo_ray.flow.curriculum import EXCLUDED, Curriculum
from tlpo_ray.flow.ledger import Accounting, PromptLedger
from tlpo_ray.flow.queue import CandidateQueue
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, decode_table, encode

MEMORY = 500
"""Prompts over which shares are averaged: some tens of updates early on, fewer than one late."""


@dataclass(slots=True)
class RecentShare:
    """Of how many among the last few hundred prompts something came true."""

    hits: float = 0.0
    prompts: float = 0.0
    _new_hits: int = field(default=0, init=False)
    _new_prompts: int = field(default=0, init=False)

    def observe(self, hits: int, prompts: int) -> None:
        """Note a finished lot."""
        self._new_hits += hits
        self._new_prompts += prompts

    def fold(self) -> None:
        """Let what came before fade, all at once: the order in which lots came in changes nothing."""
        kept = math.exp(-self._new_prompts / MEMORY)
        self.hits = self.hits * kept + self._new_hits
        self.prompts = self.prompts * kept + self._new_prompts
        self._new_hits = self._new_prompts = 0

    def snapshot(self) -> list[float]:
        """For `restored`."""
        return [self.hits, self.prompts, self._new_hits, self._new_prompts]

    @classmethod
    def restored(cls, snapshot: Sequence[float]) -> RecentShare:
        """As it was."""
        hits, prompts, new_hits, new_prompts = snapshot
        found = cls(hits, prompts)
        found.observe(int(new_hits), int(new_prompts))
        return found

    @property
    def share(self) -> float:
        """What has come in since the last `fold` counted too; 0 before anything has."""
        seen = self.prompts + self._new_prompts
        return (self.hits + self._new_hits) / seen if seen else 0.0

    @property
    def expected(self) -> float:
        """Hits to expect of a prompt, above 0, as of the last `fold`."""
        # Half a hit more than seen: at 0 every prompt there is would be sent out.
        return min(1.0, (self.hits + 0.5) / (self.prompts + 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The exchange at a glance."""

    accounting: Accounting
    queue_depth: int
    queue_oldest_s: float
    """How long the group that came first has waited."""
    ready: bool
    """Whether the learner can take an update's groups."""
    finished: bool
    """Whether every prompt has its outcome."""
    progress: float
    """Share of the prompts that entered the run that have their outcome (0 to 1): drives the learning rate."""
    confusion_rate: float
    """Answers with confusion / answers sampled, of the last few hundred prompts."""
    rerolled: int
    """Groups beyond an update whose prompts were rolled out again (only at staleness 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An exchange at rest."""

    state: dict[str, Any]
    """What JSON can hold: ledger, shares, what is in learning."""
    queue: bytes
    """Candidate groups that wait, an Arrow stream."""


class Exchange:
    """Leases prompts, admits groups, hands them to the learner, and accounts for all of them.

    Args:
        prompts: all prompts of the run, in its order.
        skipped: prompts that never entered the run, by reason.
        groups_per_update: confusion points the learner wants at a time.
        lease_size: most prompts a rollout actor leases at once.
        capacity: groups at which no more prompts are leased.
        max_staleness: most policy versions a group may be behind the learner.
        curriculum: which prompts to ask; none asks all.
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
    ) -> None:
        self._curriculum = curriculum
        self._ledger = PromptLedger(prompts, skipped)
        self._queue = CandidateQueue(capacity, max_staleness)
        self._yield = RecentShare(1.0, 4.0)
        """Candidate groups per prompt; begins as if four prompts had given one."""
        self._confusion = RecentShare()
        """Answers with confusion per answer, also those from which nothing can be learned."""
        self._groups_per_update = groups_per_update
        self._lease_size = lease_size
        self._max_staleness = max_staleness
        self._capacity = capacity
        self._window = 0
        """Prompts of the last window."""
        self._window_left = 0
        """Those of them that nobody holds yet."""
        self._in_learning: list[int] = []
        self._rerolled = 0

    restarts = 0
    """Within this process it is lost with it."""

    def lease(self, holder: str, num_actors: int) -> list[Prompt]:
        """Prompts for one lot of `holder`; none while enough are out.

        Args:
            holder: name of the rollout actor.
            num_actors: rollout actors that ask now; what may go out is divided among them.
        """
        if self._max_staleness > 0 and self._queue.full:
            return []
        if not self._window_left:
            self._open_window()
        share = min(self._lease_size, math.ceil(self._window / max(1, num_actors)), self._window_left)
        lot = self._wanted(holder, share)
        self._window_left = min(self._window_left - len(lot), self._ledger.waiting)
        return lot

    def _wanted(self, holder: str, limit: int) -> list[Prompt]:
        """The next prompts for `holder`; those that the focus leaves out get their outcome at once."""
        lot = self._ledger.lease(holder, limit)
        if self._curriculum is None:
            return lot
        wanted: list[Prompt] = []
        while lot:
            left_out: list[PromptResult] = []
            for prompt in lot:
                if self._curriculum.wants(prompt):
                    wanted.append(prompt)
                else:
                    left_out.append(PromptResult(prompt_index=prompt.index, outcome=Outcome.SKIPPED, reason=EXCLUDED))
            self._ledger.settle(holder, left_out)
            lot = self._ledger.lease(holder, limit - len(wanted))
        return wanted

    def submit(
        self, holder: str, results: Sequence[PromptResult], payload: bytes, learner_version: int
    ) -> tuple[PromptResult, ...]:
        """Enter a finished lot: outcomes into the ledger, groups into the queue; the results that counted.

        Raises:
            RecordError: the payload is no Arrow stream of candidate groups, or they are not of the confused prompts;
                nothing was entered.
        """
        table = decode_table(payload)
        told = sorted(result.prompt_index for result in results if result.outcome is Outcome.CONFUSED)
        if sorted(table.column("prompt_index").to_pylist()) != told:
            raise RecordError(f"{holder} delivered candidate groups of other prompts than those it calls confused")
        accepted = self._ledger.settle(holder, results)
        confused = {result.prompt_index for result in accepted if result.outcome is Outcome.CONFUSED}
        uninformative = sum(result.outcome is Outcome.UNINFORMATIVE for result in accepted)
        rolled = sum(result.outcome is not Outcome.SKIPPED for result in accepted)
        self._yield.observe(len(confused), rolled)
        self._confusion.observe(len(confused) + uninformative, rolled)
        if self._curriculum is not None:
            for result in accepted:
                if result.outcome is not Outcome.SKIPPED:
                    self._curriculum.observe(self._ledger.prompt(result.prompt_index), result.prompt_index in confused)
        for batch in table.to_batches():
            keep = [index in confused for index in batch.column("prompt_index").to_pylist()]
            stale = self._queue.admit(batch.filter(keep), learner_version)
            self._ledger.close_queued(stale, Outcome.STALE)
        return tuple(accepted)

    def release(self, holder: str) -> int:
        """`holder` is gone: its prompts wait again; how many."""
        returned = self._ledger.release(holder)
        self._window_left += returned
        self._window = max(self._window, self._window_left)
        return returned

    def take(self, learner_version: int) -> bytes | None:
        """The next update's groups, as an Arrow stream; `learned` must follow. None: there are not enough."""
        assert not self._in_learning, "the last update's groups were not learned"
        self._ledger.close_queued(self._queue.expire(learner_version), Outcome.STALE)
        if not self._ready():
            return None
        self._in_learning, payload = self._queue.take(self._groups_per_update)
        if self._max_staleness == 0:
            surplus = self._queue.clear()
            self._rerolled += self._ledger.requeue(surplus)
        return payload

    def take_with_snapshot(self, learner_version: int) -> tuple[bytes | None, Snapshot]:
        """`take`, and how things are after it, but for the groups that wait: they are many, and soon told anyway."""
        payload = self.take(learner_version)
        return payload, self.snapshot(with_queue=False)

    def mark_learned(self, learner_version: int) -> Snapshot:
        """The groups taken last have been learned from, the learner is at `learner_version` now; how things are."""
        self._ledger.close_queued(self._in_learning, Outcome.CONFUSED)
        self._in_learning = []
        self._ledger.close_queued(self._queue.expire(learner_version), Outcome.STALE)
        return self.snapshot()

    def status(self) -> Status:
        """The exchange at a glance."""
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
        """All that outlives this process. Prompts that rollout actors hold wait again in it; what the learner has
        taken and not yet learned, is in learning.

        Args:
            with_queue: with the groups that wait for the learner; else their prompts wait to be rolled out again.
        """
        state = {
            "ledger": self._ledger.snapshot(() if with_queue else self._queue.prompts()),
            "yield": self._yield.snapshot(),
            "confusion": self._confusion.snapshot(),
            "in_learning": self._in_learning,
            "rerolled": self._rerolled,
            "focus": None if self._curriculum is None else self._curriculum.snapshot(),
        }
        return Snapshot(state=state, queue=self._queue.content() if with_queue else encode([]))

    def restore(self, snapshot: Snapshot) -> None:
        """Be as an exchange was when it gave this snapshot.

        Raises:
            UserError: it is of other prompts.
        """
        state = snapshot.state
        self._ledger.restore(state["ledger"])
        self._yield = RecentShare.restored(state["yield"])
        self._confusion = RecentShare.restored(state["confusion"])
        self._in_learning = list(state["in_learning"])
        self._rerolled = state["rerolled"]
        if self._curriculum is not None and state["focus"] is not None:
            self._curriculum.restore(state["focus"])
        self._queue.clear()
        for batch in decode_table(snapshot.queue).to_batches():
            self._queue.admit(batch, 0)  # what is too old by now goes when the learner next looks
        self._window = self._window_left = 0

    def _ready(self) -> bool:
        ledger, queue = self._ledger, self._queue
        if self._max_staleness == 0 and (self._window_left or ledger.leased):
            return False
        nothing_more = not (ledger.waiting or ledger.leased)
        return len(queue) >= self._groups_per_update or (nothing_more and len(queue) > 0)

    def _open_window(self) -> None:
        """Let as many prompts out as may fill what the learner can still take in time and the queue can hold."""
        in_turn = self._max_staleness == 0
        if in_turn and (self._ledger.leased or self._ready() or self._in_learning):
            return
        self._yield.fold()
        self._confusion.fold()
        if self._curriculum is not None:
            self._curriculum.fold()
        wanted = min(self._groups_per_update * (self._max_staleness + 1), self._capacity) - len(self._queue)
        out = math.ceil(wanted / self._yield.expected) - self._ledger.leased
        self._window = self._window_left = max(0, min(out, self._ledger.waiting))
