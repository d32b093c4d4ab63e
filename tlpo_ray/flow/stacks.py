"""Where a process hangs: on SIGUSR1 each writes the stacks of all its threads into the run folder.

The signal is answered by faulthandler, in C: also by a process that no longer gets to its next line of Python.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def keep_stacks(folder: str | None, name: str) -> int:
    """From now on SIGUSR1 writes this process's stacks to `folder`/`name`.txt, or to its error output; its id."""
    file = None
    if folder is not None:
        with suppress(OSError):  # a node that does not see the run folder
            Path(folder).mkdir(parents=True, exist_ok=True)
            file = (Path(folder) / f"{name}.txt").open("a", encoding="utf-8")
    if file is None:
        faulthandler.register(signal.SIGUSR1)
    else:
        _kept.append(file)
        faulthandler.register(signal.SIGUSR1, file=file)
    return os.getpid()


def ask_for_stacks(process_ids: Iterable[int]) -> None:
    """Make processes of this machine write their stacks, as far as they are there."""
    for process_id in process_ids:
        with suppress(OSError):
            os.kill(process_id, signal.SIGUSR1)


def sweep(folder: Path) -> None:
    """Remove the files of processes that were never asked."""
    for file in folder.glob("*.txt"):
        if not file.stat().st_size:
            file.unlink()
    with suppress(OSError):
        folder.rmdir()


_kept: list[object] = []
"""Files that faulthandler writes to: it does not keep them open by itself."""
