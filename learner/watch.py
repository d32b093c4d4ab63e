"""Whether a learner group still works: its ranks are asked for their progress while they serve another call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tlpo_ray.cluster.actors import ActorLostError, CallFailedError, ask_progress, call_result, finished_calls
from tlpo_ray.cluster.progress import ProgressPoll, ask_interval


class GroupWatch:
    """Watches one operation of a learner group.

    The ranks wait for each other in collectives. So the group makes progress as long as any rank does, and soon none
    does once one of them hangs.

    Args:
        ranks: Handles of the ranks.
        what: The operation, e.g. "an update".
        setting: Name of the setting that limits it.
        limit_s: Maximum time without progress, in seconds.
    """

    def __init__(self, ranks: Sequence[Any], what: str, setting: str, limit_s: float) -> None:
        self._ranks = ranks
        self.what, self.setting, self.limit_s = what, setting, limit_s
        self.is_reported = False
        """Whether the operation has been reported as slow."""
        self._began = self._progressed_at = time.monotonic()
        self._polls = [ProgressPoll(ask_interval(limit_s)) for _ in ranks]
        self._questions: dict[Any, ProgressPoll] = {}
        """Questions without an answer so far."""

    @property
    def slow(self) -> str | None:
        """What the group is slow at, as a predicate of it, and what to do; None if it is within its limit."""
        now = time.monotonic()
        seconds, silent_s = now - self._began, now - self._progressed_at
        if seconds <= self.limit_s or silent_s > self.limit_s / 2:  # in the latter case it may hang
            return None
        return f"has worked {seconds:.0f} s on {self.what} and makes progress: raise {self.setting}"

    def is_silent(self) -> bool:
        """Return whether the group has made no progress for too long; asks its ranks when it is time."""
        self._take_answers()
        now, limit = time.monotonic(), self._progressed_at + self.limit_s
        for rank, poll in zip(self._ranks, self._polls, strict=True):
            if poll.is_due(limit if limit <= now else float("-inf"), now):
                self._questions[ask_progress(rank)] = poll
                poll.ask(now)
        return limit <= now and all(poll.can_judge(limit, now) for poll in self._polls)

    def unanswering(self) -> list[int]:
        """Return the ranks that have not answered the last question in time: processes that are stopped or cut off."""
        now = time.monotonic()
        return [rank for rank, poll in enumerate(self._polls) if poll.is_overdue(now)]

    def _take_answers(self) -> None:
        for question in finished_calls(list(self._questions), (), 0.0):
            asked_at = self._questions.pop(question).answer()
            with suppress(ActorLostError, CallFailedError):  # the operation itself fails, too
                self._progressed_at = max(self._progressed_at, asked_at - call_result(question))
