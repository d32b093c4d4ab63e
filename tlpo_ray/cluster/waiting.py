"""The one way this project waits for another process: with a deadline, and an error that names both sides."""

from __future__ import annotations

import re
from typing import Any

import ray
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    RuntimeEnvSetupError,
    UnserializableException,
    WorkerCrashedError,
)

from tlpo_ray.errors import DeadlineError
from tlpo_ray.stopping import interruptible

LOST = (
    RayActorError,
    OutOfMemoryError,  # Ray's memory monitor ends processes before the kernel does
    NodeDiedError,
    WorkerCrashedError,
    LocalRayletDiedError,
    RuntimeEnvSetupError,
    ActorUnschedulableError,
    ActorPlacementGroupRemoved,
)
"""Exceptions of a call whose process died or could not be started."""
ERROR_LINE = re.compile(r"[\w.]+: ")
"""Start of the line of a traceback that names the exception: `package.Error: …`."""


def wait_for(ref: Any, deadline_s: float, *, who: str, what: str) -> Any:
    """Return the value of a reference, or of a list of references, within a deadline.

    Raises:
        DeadlineError: The value did not arrive within `deadline_s` seconds; the message names both sides.
        StoppedError: A signal has come.
        Exception: Whatever the remote call raised, as it was raised there.
    """
    try:
        with interruptible() as limit_s:
            return ray.get(ref, timeout=min(deadline_s, limit_s))
    except GetTimeoutError as error:
        raise DeadlineError(f"{who} waited {deadline_s:g} s for {what}") from error
    except RayTaskError as error:
        raise error.cause from error
    except UnserializableException as error:
        raise RuntimeError(original_error_line(error)) from error


def original_error_line(error: UnserializableException) -> str:
    """Return the line of the remote traceback that names the exception.

    The exception itself cannot be rebuilt here: its class exists, or can be constructed, only in the process that
    raised it.
    """
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if ERROR_LINE.match(line)), lines[-1])
