"""Every error this project raises on purpose.

TlpoError
├── UserError              something asked for cannot be done: one line says what, what was found, what to do
│   ├── ConfigError        a run's configuration
│   ├── PromptFileError    a prompt file or dataset
│   ├── ModelError         a model folder or name
│   └── ResourceError      GPUs, CPUs, memory or disk
├── LearnerLostError       a learner rank died, hung or failed; the group can be started again
├── RecordError            what came over the wire or lies on disk is no record of ours
├── DeadlineError          a wait between processes ran out; names who waited for what
├── WeightSyncError        an actor's weights differ from the learner's after a sync
└── NonFiniteError         NaN or infinity in a loss or a weight; nothing is broadcast

StoppedError is none of them: like KeyboardInterrupt it passes by whoever catches an `Exception`.
"""

from __future__ import annotations

import re

WHO = re.compile(r"(?<=://)[^/\s]+@")
"""Name and password in an address."""


class TlpoError(Exception):
    """Base of all errors raised by tlpo-ray."""


class UserError(TlpoError):
    """The request cannot be met; the message is one line for its user."""


class ConfigError(UserError):
    """The configuration is wrong."""


class PromptFileError(UserError):
    """A prompt file or dataset cannot be read."""


class ModelError(UserError):
    """A model cannot be found or loaded."""


class ResourceError(UserError):
    """More resources were asked for than there are."""


class DeadlineError(TlpoError):
    """A cross-process wait ran out of time."""


class LearnerLostError(TlpoError):
    """A learner rank is gone, and with it the weights of all."""


class RecordError(TlpoError, ValueError):
    """What came over the wire, or lies on disk, is not the record it should be."""


class StoppedError(BaseException):
    """The run was asked to stop (SIGTERM, SIGINT); it can go on from where it was.

    Args:
        message: one line for its user.
        signal: number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class WeightSyncError(TlpoError):
    """The canary found that a rollout actor's policy differs from the learner's."""


class NonFiniteError(TlpoError):
    """A loss, gradient or weight is NaN or infinite."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, with the next one if it ends in a colon, or the name of the error's kind if
    it says nothing; without name and password in an address."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    said = " ".join([lines[0], lines[1].strip()]) if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return WHO.sub("", said)
