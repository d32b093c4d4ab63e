"""When a run's checkpoints are due, and which of them is complete: the learner writes them while the run continues."""

from __future__ import annotations

import logging
import time

from tlpo_ray.config.run import CheckpointConfig
from tlpo_ray.run.components import Learner
from tlpo_ray.run.folder import RunFolder

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a run, one at a time.

    Args:
        learner: Writes them. Its methods raise LearnerLostError, or ResourceError when storage cannot be written.
        folder: The run's folder; its journal is pruned once a checkpoint is complete.
        config: How often, and how many are kept.
        version: Policy version that the run begins or resumes with, for which none is due.
    """

    def __init__(self, learner: Learner, folder: RunFolder, config: CheckpointConfig, version: int) -> None:
        self._learner, self._folder, self._config = learner, folder, config
        self.saved = version
        """Policy version of the last complete checkpoint, or that the run began with."""
        self.seconds = 0.0
        """Time that the last complete checkpoint took, in seconds."""
        self._writing: int | None = None
        """Policy version of the checkpoint that is being written; None if there is none."""

    def is_due(self, version: int) -> bool:
        """Return whether a policy version has to be saved: the last one saved is a full interval behind."""
        last, interval = self._writing or self.saved, self._config.every_updates
        return version // interval > last // interval

    def begin(self, version: int) -> None:
        """Let the learner copy its state, which is of this policy version, and write it. Waits for the one before."""
        if self._writing is not None:
            before, began = self._writing, time.monotonic()
            self.poll(wait=True)
            logger.warning(
                "the checkpoint of update %d was still being written when the next one was due: the run waited %.0f s "
                "for storage; raise checkpoint.every_updates",
                before, time.monotonic() - began,
            )  # fmt: skip
        self._learner.begin_save(self._folder.checkpoints, self._config.keep_last)
        self._writing = version

    def poll(self, *, wait: bool = False) -> None:
        """Note a checkpoint that has become complete; with `wait`, wait for one that is being written."""
        if self._writing is None or (saved := self._learner.poll_save(wait=wait)) is None:
            return
        self.saved, self.seconds, self._writing = saved.version, saved.seconds, None
        self._folder.prune_journal(saved.oldest)
        if not saved.had_room:
            logger.warning(
                "memory for a copy of the training state was short: the run waited while the checkpoint of update %d "
                "was written (%.0f s)",
                saved.version, saved.seconds,
            )  # fmt: skip

    def forget(self) -> None:
        """Forget what was being written: its process is gone, and another checkpoint is due."""
        self._writing = None
