"""What a process prints, kept in the run's folder: Ray's own log files vanish with their node or cluster."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

LOGS = "logs"
"""Folder of these files in a run's folder."""
MAX_BYTES = 1 << 22
"""Size above which the beginning of a file is dropped."""
KEPT_BYTES = 1 << 16
"""What is kept of its end."""
COPY_INTERVAL_S = 1.0


def keep_output(folder: Path, name: str) -> None:
    """Send what this process prints from now on to `folder`/`name`.log, and from there to where it went before.

    The operating system writes into the file, so it holds the last words of a process that crashes, and of the
    processes that it has started. A thread copies them to Ray's log files, which the dashboard shows. On a node that
    cannot write to the folder nothing changes.

    Args:
        folder: Folder for the files of all processes.
        name: Name of this process.
    """
    file = folder / f"{name}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        output = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return
    before = os.dup(2)
    begin = os.fstat(output).st_size
    for stream in (1, 2):
        os.dup2(output, stream)
    Thread(target=_copy, args=(output, begin, before), name="output", daemon=True).start()


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last lines of a file, without those that are empty; none if it cannot be read.

    Of a line that was overwritten, as a progress bar is, what a terminal would show at last.
    """
    try:
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - KEPT_BYTES))
            lines = content.read().decode(errors="replace").split("\n")
    except OSError:
        return []
    return [line.rstrip().rpartition("\r")[2] for line in lines if line.strip()][-count:]


def remove_empty(folder: Path) -> None:
    """Remove the files of a folder that nothing was written to, and the folder if nothing is left."""
    with suppress(OSError):
        for file in folder.iterdir():
            if not file.stat().st_size:
                file.unlink()
        folder.rmdir()


def _copy(output: int, begin: int, to: int) -> None:
    """Copy what is appended to a file, and keep the file small."""
    while True:
        time.sleep(COPY_INTERVAL_S)
        with suppress(OSError):
            while content := os.pread(output, KEPT_BYTES, begin):
                os.write(to, content)
                begin += len(content)
            if begin > MAX_BYTES:
                kept = os.pread(output, KEPT_BYTES, begin - KEPT_BYTES)
                os.ftruncate(output, 0)
                os.write(output, kept)
                begin = len(kept)
