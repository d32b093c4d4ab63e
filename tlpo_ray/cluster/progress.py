"""Progress of work in other processes: they note it, the driver asks for it, and deadlines count from it.

A process notes every piece of its work on a `WorkClock`. A thread apart from that of the work answers the driver's
question how long ago the last one was, so one long call does not look like a hang. A process that is stopped does not
answer; one that hangs answers with an age that grows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

ASKS_PER_LIMIT = 4
"""Questions within the shortest time without progress after which a process is given up."""
MAX_INTERVAL_S = 5.0
"""Maximum time between two questions, in seconds: what the driver shows of slow work is at most that old."""


class WorkClock:
    """The time of the last piece of work, which another thread may read."""

    def __init__(self) -> None:
        self._noted_at = time.monotonic()

    def note(self) -> None:
        """Note that a piece of work is done."""
        self._noted_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last piece of work, or since this clock was made."""
        return time.monotonic() - self._noted_at


def ask_interval(shortest_limit_s: float) -> float:
    """Return the time between two questions in seconds, given the shortest time without progress that is a hang."""
    return min(MAX_INTERVAL_S, shortest_limit_s / ASKS_PER_LIMIT)


@dataclass(slots=True)
class ProgressPoll:
    """Questions for the progress of one process: when the next is due, and what the last answer allows to judge.

    Times are those of the caller's clock, in seconds. A *limit* is a time until which the process may show no progress.
    """

    interval_s: float
    """Time from one question to the next. A question that is unanswered for as long is taken as silence."""
    last_asked: float = float("-inf")
    """Time of the last question; minus infinity if the first one is due."""
    is_asked: bool = False
    """Whether that question has no answer yet."""
    known_until: float | None = None
    """Time of the last question that was answered; None if none was. The answer was given later than that."""

    def is_due(self, passed_limit: float, now: float) -> bool:
        """Return whether the process should be asked now.

        Args:
            passed_limit: Last limit that has passed; minus infinity if none has.
            now: Current time.
        """
        # Progress that came just before a limit, or while the driver was busy elsewhere, is not known yet.
        return not self.is_asked and (self.last_asked < passed_limit or now >= self.last_asked + self.interval_s)

    def ask(self, now: float) -> None:
        """Note that the process was asked."""
        self.last_asked, self.is_asked = now, True

    def answer(self) -> float:
        """Note that it answered; return the time of the question, from which ages in the answer can be counted."""
        self.is_asked, self.known_until = False, self.last_asked
        return self.last_asked

    def can_judge(self, limit: float, now: float) -> bool:
        """Return whether a process that is not known to have made progress until a limit has made none.

        It has made none if it has answered a question that was asked after the limit, or does not answer. A process
        that has never been asked is judged by the limit alone.
        """
        if self.known_until is None and not self.is_asked:
            return True
        return self._has_answered(limit) or self.is_overdue(now)

    def is_overdue(self, now: float) -> bool:
        """Return whether the last question has had no answer for so long that it is taken as silence."""
        return self.is_asked and now >= self.last_asked + self.interval_s

    def judged_at(self, limit: float) -> float:
        """Return the earliest time at which there is something to do about a limit: judge the process, or ask it."""
        waits = self.is_asked and not self._has_answered(limit)
        return max(limit, self.last_asked + self.interval_s) if waits else limit

    def _has_answered(self, limit: float) -> bool:
        return self.known_until is not None and self.known_until >= limit
