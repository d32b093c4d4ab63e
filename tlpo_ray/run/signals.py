"""Ending a run on SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tlpo_ray.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 25.0
"""How long a run may take to end after a signal, in seconds; `ray job stop` and Kubernetes kill after 30 s."""


@contextmanager
def stop_on_signal(folder: Path) -> Iterator[None]:
    """Raise StoppedError inside the block on SIGTERM or SIGINT: what was committed is already in the journal.

    A second signal ends the process at once, and so does a block that takes longer than `GRACE_S` to end. Outside the
    main thread, where Python installs no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        for handled in SIGNALS:
            signal.signal(handled, signal.SIG_DFL)
        timers.append(threading.Timer(GRACE_S, os._exit, (128 + number,)))
        timers[0].daemon = True
        timers[0].start()
        name = signal.Signals(number).name
        if not (folder / "config.yaml").exists():
            raise StoppedError(f"stopped by {name} before the run had started", number)
        raise StoppedError(f"stopped by {name}; nothing is lost, resume with: tlpo train --resume {folder}", number)

    before = {handled: signal.signal(handled, stop) for handled in SIGNALS}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for handled, handler in before.items():
            signal.signal(handled, handler)
