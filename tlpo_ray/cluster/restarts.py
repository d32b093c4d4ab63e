"""How often a process may be started again before the run gives up."""

from __future__ import annotations


class RestartBudget:
    """Counts restarts of one kind of process against `flow.max_restarts`.

    Args:
        limit: Most restarts in a run.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.spent = 0
        """Restarts so far."""

    @property
    def exhausted(self) -> bool:
        """Whether no restart is left."""
        return self.spent >= self._limit

    def spend(self) -> None:
        """Count one restart; there must be one left."""
        assert not self.exhausted, "check `exhausted` first"
        self.spent += 1

    def __str__(self) -> str:
        return f"all {self._limit} restarts (flow.max_restarts) are used up"
