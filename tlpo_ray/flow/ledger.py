"""The prompt ledger: prompts are leased, never given away, and every prompt ends in exactly one outcome.

WAITING ──lease──> LEASED ──settle──> settled: clean, uninformative, skipped
   ^                  │
   │<─────release─────┤──settle──> QUEUED ──learned──> settled: confused
   │                                 │ └──too old──> settled: stale
   │<────────────requeue─────────────┘
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlpo_ray.errors import UserError
from tlpo_ray.flow.curriculum import EXCLUDED
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult

FORMER_REASONS = {"left out: its like is rarely confused (flow.focus)": EXCLUDED}
"""Reasons in journals of the earlier release, each with its text now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Number of prompts in each place and with each outcome.

    Example: 96 prompts, 70 clean, 20 confused, 4 uninformative, 0 stale, 2 skipped as too long.
    """

    total: int
    """All prompts, those that never entered the run included."""
    waiting: int
    """Prompts that no rollout actor has leased, or that have to be rolled out again."""
    leased: int
    """Prompts that a rollout actor has leased."""
    queued: int
    """Prompts with a candidate group that waits for the learner, or is being learned from."""
    clean: int
    """Prompts answered without confusion."""
    truncated: int = 0
    """Prompts with an answer that was cut short before any confusion (`rollout.truncation`)."""
    confused: int
    """Prompts with a candidate group that was learned from."""
    uninformative: int
    """Prompts answered with confusion from which nothing can be learned."""
    stale: int
    """Prompts with a candidate group that became too old."""
    skipped: Mapping[str, int]
    """Number of prompts that were not rolled out, by reason."""

    @property
    def settled(self) -> int:
        """Prompts that have their final outcome."""
        answered = self.clean + self.truncated + self.confused + self.uninformative + self.stale
        return answered + sum(self.skipped.values())

    @property
    def balanced(self) -> bool:
        """Whether every prompt is in exactly one place; anything else would be a bug of this project."""
        return self.settled + self.waiting + self.leased + self.queued == self.total

    @property
    def complete(self) -> bool:
        """Whether every prompt has its final outcome."""
        return self.settled == self.total

    def as_json(self) -> dict[str, object]:
        """Return the number of prompts by outcome for `result.json`; they add up to `total`."""
        names = ("total", "clean", "truncated", "confused", "uninformative", "stale")
        counts = {name: getattr(self, name) for name in names}
        return counts | {"skipped": dict(self.skipped), "balanced": self.balanced and self.complete}


class PromptLedger:
    """Records which holder has leased which prompt (`exchange` defines the word), and each prompt's outcome.

    Args:
        prompts: All prompts of the run: `prompts[i].index` is i.
        skipped: Number of prompts that never entered the run, by reason; they count in the total.
    """

    def __init__(self, prompts: Sequence[Prompt], skipped: Mapping[str, int]) -> None:
        self._prompts = prompts
        self._next = 0
        """Index of the first prompt that has never been leased."""
        self._returned: list[int] = []
        """Heap of the prompts that wait again; all are below `_next`."""
        self._holders: dict[int, str] = {}
        """Holder of each leased prompt, by prompt index."""
        self._batch_sizes: dict[int, int] = {}
        """Number of prompts in the batch of each leased prompt; for one that waits again after a batch that may have
        been too large, the maximum in its next batch."""
        self._queued: set[int] = set()
        self._outcomes: Counter[Outcome] = Counter()
        self._skipped: Counter[str] = Counter(skipped)
        self.never_entered = sum(skipped.values())
        """Number of prompts that were skipped before the run began."""

    @property
    def waiting(self) -> int:
        """Number of prompts that wait to be leased."""
        return len(self._prompts) - self._next + len(self._returned)

    @property
    def leased(self) -> int:
        """Number of prompts that are leased."""
        return len(self._holders)

    def prompt(self, index: int) -> Prompt:
        """Return the prompt with this index."""
        return self._prompts[index]

    def lease(self, holder: str, limit: int, in_batch: int = 0) -> list[Prompt]:
        """Lease up to `limit` waiting prompts to `holder`, those with the lowest indices first.

        They are fewer where the last batch of a prompt may have been too large (`release`).

        Args:
            holder: Holder that will roll them out.
            limit: Maximum number of prompts to lease now.
            in_batch: Number of prompts that the batch has already.
        """
        limit += in_batch
        indices: list[int] = []
        while self._returned and in_batch + len(indices) < limit:
            limit = min(limit, self._batch_sizes.get(self._returned[0], limit))
            if in_batch + len(indices) < limit:
                indices.append(heapq.heappop(self._returned))
        new = max(0, min(limit - in_batch - len(indices), len(self._prompts) - self._next))
        indices += range(self._next, self._next + new)
        self._next += new
        self._holders.update(dict.fromkeys(indices, holder))
        self._batch_sizes.update(dict.fromkeys(indices, in_batch + len(indices)))
        return [self._prompts[index] for index in indices]

    def settle(self, holder: str, results: Iterable[PromptResult]) -> list[PromptResult]:
        """Enter the results of prompts that `holder` still has leased, and return those results.

        Confused prompts become queued: their outcome is open until `close_queued`. All others are settled. A result for
        a lease that has been released is not accepted, because another holder may roll that prompt out.
        """
        accepted = [result for result in results if self._holders.get(result.prompt_index) == holder]
        for result in accepted:
            del self._holders[result.prompt_index], self._batch_sizes[result.prompt_index]
            if result.outcome is Outcome.CONFUSED:
                self._queued.add(result.prompt_index)
            else:
                self._close(result.outcome, result.reason)
        return accepted

    def close_queued(self, indices: Iterable[int], outcome: Outcome) -> None:
        """Settle the prompts of groups that left the queue for good: learned from (CONFUSED) or too old (STALE)."""
        for index in indices:
            self._queued.remove(index)
            self._close(outcome, "")

    def release(self, holder: str, halve: bool = False) -> int:
        """Release all leases of `holder`, so that the prompts wait again; return how many they were.

        Args:
            holder: Holder that leased them.
            halve: Whether the next batch of each prompt may have at most half as many prompts as this one.
        """
        held = [index for index, owner in self._holders.items() if owner == holder]
        for index in held:
            if halve:
                self._batch_sizes[index] = max(1, self._batch_sizes[index] // 2)
            else:
                del self._batch_sizes[index]
        return self._make_wait(held, self._holders.pop)

    def requeue(self, indices: Iterable[int]) -> int:
        """Make the prompts of unused groups wait to be rolled out again, and return how many they were."""
        return self._make_wait(list(indices), self._queued.remove)

    def accounting(self) -> Accounting:
        """Return the number of prompts in each place and with each outcome."""
        return Accounting(
            total=len(self._prompts) + self.never_entered,
            waiting=self.waiting,
            leased=len(self._holders),
            queued=len(self._queued),
            clean=self._outcomes[Outcome.CLEAN],
            truncated=self._outcomes[Outcome.TRUNCATED],
            confused=self._outcomes[Outcome.CONFUSED],
            uninformative=self._outcomes[Outcome.UNINFORMATIVE],
            stale=self._outcomes[Outcome.STALE],
            skipped=dict(self._skipped),
        )

    def snapshot(self, lost: Collection[int] = ()) -> dict[str, Any]:
        """Return everything that outlives this process as JSON values; leased prompts wait again in it.

        Args:
            lost: Indices of queued prompts, the groups of which are not kept; these prompts wait again, too.
        """
        return {
            "prompts": len(self._prompts),
            "never_entered": self.never_entered,
            "next": self._next,
            "returned": sorted([*self._returned, *self._holders, *lost]),
            "queued": sorted(self._queued.difference(lost)),
            "outcomes": {outcome.value: count for outcome, count in self._outcomes.items()},
            "skipped": dict(self._skipped),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take over the state of the ledger that returned this snapshot.

        Raises:
            UserError: The snapshot belongs to other prompts.
        """
        if snapshot["prompts"] != len(self._prompts):
            raise UserError(
                f"the run had {snapshot['prompts']:,} prompts, now there are {len(self._prompts):,}: resume with the "
                f"prompts that the run was started with"
            )
        self.never_entered = snapshot["never_entered"]  # the prompt file may have other unreadable lines by now
        self._next = snapshot["next"]
        self._returned = list(snapshot["returned"])  # sorted, so a heap
        self._queued = set(snapshot["queued"])
        self._holders.clear()
        self._batch_sizes.clear()
        self._outcomes = Counter({Outcome(name): count for name, count in snapshot["outcomes"].items()})
        self._skipped = Counter({FORMER_REASONS.get(reason, reason): n for reason, n in snapshot["skipped"].items()})

    def _make_wait(self, indices: Sequence[int], forget: Callable[[int], object]) -> int:
        """Move prompts to the waiting ones; `forget` removes one from where it is now."""
        for index in indices:
            forget(index)
            heapq.heappush(self._returned, index)
        return len(indices)

    def _close(self, outcome: Outcome, reason: str) -> None:
        if outcome is Outcome.SKIPPED:
            self._skipped[reason] += 1
        else:
            self._outcomes[outcome] += 1
