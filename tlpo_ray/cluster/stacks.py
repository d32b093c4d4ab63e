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


def enable_stack_dumps(folder: str | None, name: str) -> int:
    """Make SIGUSR1 append this process's stacks to `folder`/`name`.txt, and return its process id.

    Without a folder, or on a node that cannot write there, the stacks go to the error output.
    """
    file = None
    if folder is not None:
        with suppress(OSError):  # a node that does not see the run folder
            Path(folder).mkdir(parents=True, exist_ok=True)
            file = (Path(folder) / f"{name}.txt").open("a", encoding="utf-8")
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


def remove_empty_dumps(folder: Path) -> None:
    """Remove the files of processes that were never asked for their stacks, and the folder if nothing is left."""
    for file in folder.glob("*.txt"):
        if not file.stat().st_size:
            file.unlink()
    with suppress(OSError):
        folder.rmdir()


_open_files: list[object] = []
"""Files that faulthandler writes to: it does not keep them open by itself."""
