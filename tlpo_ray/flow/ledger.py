"""The prompt ledger: prompts are leased, never handed out, and every one of them ends in exactly one outcome.

WAITING ──lease──> LEASED ──result──> settled: clean, uninformative, skipped
   ^                 │
   │<──give back─────┤──result──> QUEUED ──learned──> settled: confused
   │<────────────────┴─────────────┤
            give back              └──too old──> settled: stale
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlpo_ray.errors import UserError
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Where every prompt of a run is.

    Example: 96 prompts, 70 clean, 20 confused, 4 uninformative, 0 stale, 2 skipped as too long.
    """

    total: int
    waiting: int
    leased: int
    queued: int
    clean: int
    confused: int
    uninformative: int
    stale: int
    skipped: Mapping[str, int]
    """Count by reason."""

    @property
    def settled(self) -> int:
        """Prompts that have their final outcome."""
        return self.clean + self.confused + self.uninformative + self.stale + sum(self.skipped.values())

    @property
    def balanced(self) -> bool:
        """Whether every prompt is in exactly one place. False would be a bug of ours."""
        return self.settled + self.waiting + self.leased + self.queued == self.total

    @property
    def complete(self) -> bool:
        """Whether every prompt has its final outcome."""
        return self.settled == self.total

    def as_json(self) -> dict[str, object]:
        """For `result.json`: each outcome, and `total` which they sum up to."""
        counts = {name: getattr(self, name) for name in ("total", "clean", "confused", "uninformative", "stale")}
        return counts | {"skipped": dict(self.skipped), "balanced": self.balanced and self.complete}


class PromptLedger:
    """Who holds which prompt, and what became of it.

    Args:
        prompts: all prompts of the run: `prompts[i].index` is i.
        skipped: prompts that never entered the run, by reason; they count in the total.
    """

    def __init__(self, prompts: Sequence[Prompt], skipped: Mapping[str, int]) -> None:
        self._prompts = prompts
        self._next = 0
        """Index of the first prompt that nobody has held yet."""
        self._returned: list[int] = []
        """Heap of those that wait again; all are below `_next`."""
        self._holders: dict[int, str] = {}
        self._queued: set[int] = set()
        self._outcomes: Counter[Outcome] = Counter()
        self._skipped: Counter[str] = Counter(skipped)
        self.never_entered = sum(skipped.values())
        """Prompts that were skipped before the run began."""

    @property
    def waiting(self) -> int:
        """Prompts nobody holds."""
        return len(self._prompts) - self._next + len(self._returned)

    @property
    def leased(self) -> int:
        """Prompts held by rollout actors."""
        return len(self._holders)

    def prompt(self, index: int) -> Prompt:
        """The prompt with this index."""
        return self._prompts[index]

    def lease(self, holder: str, limit: int) -> list[Prompt]:
        """At most `limit` waiting prompts, lowest index first; `holder` owes a result for each."""
        indices = [heapq.heappop(self._returned) for _ in range(min(limit, len(self._returned)))]
        new = min(limit - len(indices), len(self._prompts) - self._next)
        indices += range(self._next, self._next + new)
        self._next += new
        self._holders.update(dict.fromkeys(indices, holder))
        return [self._prompts[index] for index in indices]

    def settle(self, holder: str, results: Iterable[PromptResult]) -> list[PromptResult]:
        """Enter the results of prompts that `holder` still holds; the accepted ones.

        A result for a lease that has been given back is not accepted: another actor has that prompt, or had it.
        """
        accepted = [result for result in results if self._holders.get(result.prompt_index) == holder]
        for result in accepted:
            del self._holders[result.prompt_index]
            if result.outcome is Outcome.CONFUSED:
                self._queued.add(result.prompt_index)
            else:
                self._close(result.outcome, result.reason)
        return accepted

    def close_queued(self, indices: Iterable[int], outcome: Outcome) -> None:
        """The groups of these prompts left the queue for good: learned (CONFUSED) or too old (STALE)."""
        for index in indices:
            self._queued.remove(index)
            self._close(outcome, "")

    def release(self, holder: str) -> int:
        """Everything `holder` holds waits again; how many that were."""
        return self._return([index for index, owner in self._holders.items() if owner == holder], self._holders.pop)

    def requeue(self, indices: Iterable[int]) -> int:
        """These prompts' groups were not used: the prompts wait to be rolled out again."""
        return self._return(list(indices), self._queued.remove)

    def accounting(self) -> Accounting:
        """Where every prompt is now."""
        return Accounting(
            total=len(self._prompts) + self.never_entered,
            waiting=self.waiting,
            leased=len(self._holders),
            queued=len(self._queued),
            clean=self._outcomes[Outcome.CLEAN],
            confused=self._outcomes[Outcome.CONFUSED],
            uninformative=self._outcomes[Outcome.UNINFORMATIVE],
            stale=self._outcomes[Outcome.STALE],
            skipped=dict(self._skipped),
        )

    def snapshot(self, lost: Collection[int] = ()) -> dict[str, Any]:
        """All that outlives this process, as JSON can hold it: prompts that are held by somebody wait again.

        Args:
            lost: prompts in the queue whose groups do not outlive it: they wait again, too.
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
        """Be as a ledger was when it gave this snapshot.

        Raises:
            UserError: it is of other prompts.
        """
        if snapshot["prompts"] != len(self._prompts):
            raise UserError(
                f"the run had {snapshot['prompts']:,} prompts, now there are {len(self._prompts):,}: go on with the "
                f"prompts that it began with"
            )
        self.never_entered = snapshot["never_entered"]  # the prompts' file may have other bad lines by now
        self._next = snapshot["next"]
        self._returned = list(snapshot["returned"])  # sorted, so a heap
        self._queued = set(snapshot["queued"])
        self._holders.clear()
        self._outcomes = Counter({Outcome(name): count for name, count in snapshot["outcomes"].items()})
        self._skipped = Counter(snapshot["skipped"])

    def _return(self, indices: list[int], forget: object) -> int:
        assert callable(forget)
        for index in indices:
            forget(index)
            heapq.heappush(self._returned, index)
        return len(indices)

    def _close(self, outcome: Outcome, reason: str) -> None:
        if outcome is Outcome.SKIPPED:
            self._skipped[reason] += 1
        else:
            self._outcomes[outcome] += 1
