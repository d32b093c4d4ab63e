"""Every error that this project raises on purpose.

TlpoError
├── UserError              the request cannot be met; the message says what was requested, what was found, what to do
│   ├── ConfigError        the configuration is wrong
│   ├── PromptFileError    a prompt file or dataset cannot be read
│   ├── ModelError         a model cannot be found or loaded
│   ├── PromptError        a prompt cannot be put to the model as it is
│   └── ResourceError      too few GPUs or CPUs, too little memory or disk space, or no permission to write
├── DeadlineError          a wait between processes timed out; the message says which process waited for what
├── LearnerLostError       a learner rank died, hung or failed; the group can be restarted
├── JudgeError             a sampled answer cannot be judged; the message names it, and the file that keeps all answers
├── RecordError            data from another process or from disk is not a valid record of this project
├── WeightSyncError        a rollout actor's weights differ from the learner's after a weight sync
└── NonFiniteError         a loss, gradient or weight is NaN or infinite

StoppedError is not in this tree. It derives from BaseException, as KeyboardInterrupt does, so that code which catches
any Exception of a rollout or a tracker does not catch a request to stop.
"""

from __future__ import annotations

import re

CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
"""User name and password in a URL."""


class TlpoError(Exception):
    """Base class of all errors raised by tlpo-ray."""


class UserError(TlpoError):
    """The request cannot be met; the message is one line for the user."""


class ConfigError(UserError):
    """The configuration is wrong."""


class PromptFileError(UserError):
    """A prompt file or dataset cannot be read."""


class ModelError(UserError):
    """A model cannot be found or loaded."""


class PromptError(UserError):
    """A prompt cannot be put to the model as it is; the message says why, without the prompt's text."""


class ResourceError(UserError):
    """The machine or the cluster has less than what was requested."""


class DeadlineError(TlpoError):
    """A wait for another process timed out."""


class LearnerLostError(TlpoError):
    """A learner rank is lost, and with it the weights of all ranks, which are sharded."""


class JudgeError(TlpoError):
    """A sampled answer cannot be judged; no sampled answer is lost."""


class RecordError(TlpoError, ValueError):
    """Data from another process or from disk is not the record that it should be."""


class StoppedError(BaseException):
    """A signal has come: SIGINT (Ctrl-C), SIGTERM or SIGHUP.

    Args:
        message: One line for the user, which says how to continue.
        signal: Number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class WeightSyncError(TlpoError):
    """The canary found that a rollout actor's policy differs from the learner's."""


class NonFiniteError(TlpoError):
    """A loss, gradient or weight is NaN or infinite."""


def details_of(error: BaseException, limit: int) -> str:
    """Return what an error and its causes say beyond a line: the longest message among them; empty if all are short.

    Args:
        error: The error.
        limit: Most characters to return, from the end, which says what happened.
    """
    messages, cause = list[str](), error
    while cause is not None:
        messages.append(str(cause).strip())
        cause = cause.__cause__  # type: ignore[assignment]
    longest = max(messages, key=lambda message: message.count("\n"))
    return CREDENTIALS.sub("", longest[-limit:]) if "\n" in longest else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for use inside a one-line message of ours.

    A line that ends in a colon is joined with the next one. An error without a message gives the name of its class.
    User names and passwords in URLs are removed: messages end up in logs and reports.
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    line = " ".join([lines[0], lines[1].strip()]) if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return CREDENTIALS.sub("", line)
