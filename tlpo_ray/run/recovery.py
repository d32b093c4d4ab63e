"""A learner group that is lost, or is about to be, starts again at the policy version that it had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from tlpo_ray.errors import LearnerLostError
from tlpo_ray.run.checkpoints import Checkpoints
from tlpo_ray.run.components import Learner
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.journal import Journal

if TYPE_CHECKING:
    from learner.report import UpdateReport

logger = logging.getLogger(__name__)

T = TypeVar("T")
Poll = Callable[[float], T | None]
"""Waits for so many seconds; returns None if what it waits for has not happened."""

POLL_S = 1.0
"""Timeout of a wait for fleet or learner in seconds, after which progress is reported again."""
MAX_CONSECUTIVE_RESTARTS = 3
"""Restarts of the learner group in one and the same operation, after which another would not help either."""


def poll_learner(poll: Poll[T]) -> T:
    """Wait for the learner alone: call `poll` until it returns something."""
    while (result := poll(POLL_S)) is None:
        pass
    return result


def replay(
    learner: Learner,
    journal: Journal,
    checkpoints: Path,
    until: int,
    wait: Callable[[Poll[UpdateReport]], UpdateReport] = poll_learner,
) -> None:
    """Bring a freshly started learner to a policy version: load the newest checkpoint, repeat the updates since.

    Args:
        learner: Has the weights that the run began with.
        journal: The run's journal.
        checkpoints: Folder of the run's checkpoints.
        until: Policy version to reach.
        wait: Waits for each update, given `Learner.poll_update`.

    Raises:
        UserError: An update since the checkpoint cannot be repeated.
        LearnerLostError: A rank was lost again.
    """
    after = learner.restore(checkpoints, until)
    for update in journal.updates(after, until):
        learner.begin_update(update.groups, update.progress)
        wait(learner.poll_update)


class RunState(Protocol):
    """What recovery needs of the loop."""

    version: int
    """Policy version of the last committed update."""

    def wait_for_lost_learner(self, poll: Poll[T]) -> T:
        """Wait for a learner that is coming back, and do meanwhile what is possible without it."""

    def make_room(self) -> None:
        """Free what the learner needs to work, if it shares a GPU."""

    def repeat_update(self) -> None:
        """Make the update again that was begun and is not committed yet."""


class LearnerRecovery:
    """Runs what needs the learner, and brings the learner back when a rank is lost.

    Args:
        learner: The learner group.
        folder: Folder of the run, with its journal.
        checkpoints: The run's checkpoints.
        run: The loop's side.
    """

    def __init__(self, learner: Learner, folder: RunFolder, checkpoints: Checkpoints, run: RunState) -> None:
        self._learner, self._folder, self._checkpoints, self._run = learner, folder, checkpoints, run
        self.restarts = 0
        """Times that all ranks were started again, because one was lost or its node is about to be."""

    def run(self, act: Callable[[], T]) -> T:
        """Run something that needs the learner. When a rank is lost, restart all ranks, restore them, and try again.

        Raises:
            LearnerLostError: No restart is left, or the loss repeats each time.
        """
        version, attempts = self._learner.version, 0
        while True:
            try:
                if attempts:
                    self._restart()
                self._restore(version)
                return act()
            except LearnerLostError as error:
                budget = self._learner.restart_budget
                is_announced = self._learner.is_draining  # nobody's fault, and over once the ranks are elsewhere
                if not is_announced and budget.exhausted:
                    raise LearnerLostError(f"{error}; {budget}") from error
                if attempts == MAX_CONSECUTIVE_RESTARTS:
                    raise LearnerLostError(f"{error}; this repeated after each of {attempts} restarts") from error
                if not is_announced:
                    budget.spend()
                logger.warning("restarting the learner group: %s", error, extra={"error": error})
                attempts += 1

    def move(self) -> None:
        """Take the learner to other nodes before one of its nodes is lost: no update has to be made again.

        Raises:
            LearnerLostError: See `run`.
        """
        version = self._run.version
        logger.warning("a node of the learner group is drained: the group moves after update %d", version)
        if self._checkpoints.saved < version:
            self.run(lambda: self._checkpoints.begin(version))
            self.run(lambda: self._checkpoints.poll(wait=True))

        def restart() -> None:
            if self._learner.is_draining:  # else it was lost meanwhile, and has started elsewhere
                self._restart()
                self._restore(version)

        self.run(restart)

    def _restart(self) -> None:
        """Start all ranks again and wait for them."""
        self._checkpoints.forget()
        self.restarts += 1
        self._learner.restart()
        self._run.wait_for_lost_learner(lambda timeout_s: self._learner.poll_ready(timeout_s) or None)

    def _restore(self, version: int) -> None:
        """Bring the learner back to the policy version that it had."""
        if self._learner.version != version:
            self._run.make_room()
            journal, checkpoints = self._folder.journal, self._folder.checkpoints
            replay(self._learner, journal, checkpoints, self._run.version, self._run.wait_for_lost_learner)
        if self._learner.version != version:  # the last update was made, but is not committed yet
            self._run.repeat_update()
