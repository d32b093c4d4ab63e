"""Stack dumps: on SIGUSR1 a process writes the stacks of all its threads into the run folder.

faulthandler handles the signal in C, so a process that never reaches its next line of Python still answers.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

STACKS = "stacks"
"""Folder of stack dumps in a run's folder."""


def enable_stack_dumps(folder: Path | None, name: str) -> int:
    """Make SIGUSR1 append this process's stacks to `folder`/`name`.txt, and return its process id.

    Without a folder, or on a node that cannot write there, the stacks go to the error output.
    """
    file = None
    if folder is not None:
        with suppress(OSError):  # a node that does not see the run folder
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / f"{name}.txt").open("a", encoding="utf-8")
    if file is None:
        faulthandler.register(signal.SIGUSR1)
    else:
        _open_files.append(file)
        faulthandler.register(signal.SIGUSR1, file=file)
    return os.getpid()


def request_stack_dumps(pids: Iterable[int]) -> None:
    """Make processes of this machine dump their stacks; processes that have ended are skipped."""
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGUSR1)


_open_files: list[object] = []
"""Files that faulthandler writes to: it does not keep them open by itself."""
