"""Ending on a signal: Ctrl-C (SIGINT), SIGTERM and a closed terminal (SIGHUP), at whatever moment they come.

* The first signal raises KeyboardInterrupt in the main thread: the exception that libraries are prepared for. Inside
  `deferred` it is only noted, until the next `interruptible` wait or `check_stop`.
* Whatever surfaces after a signal becomes a StoppedError: the error of an interrupted library, or of a process that got
  the same signal, says nothing that a user needs.
* A thread ends the process on a second signal, and if it takes longer than `GRACE_S` to end. Python's handler in C
  reports every signal to this thread, which therefore works even while the main thread is busy in compiled code.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn

from tlpo_ray.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 25.0
"""How long a process may take to end after a signal, in seconds; `ray job stop` and Kubernetes kill after 30 s."""
REPEAT_S = 1.0
"""Signals within this time of the first one belong to it, in seconds: many programs signal a process and its group."""
SIGNALLED = 128
"""Base of the exit code of a process that a signal has stopped; the signal's number is added to it."""
CLEAR_LINE = b"\r\x1b[K\x1b[?25h"
"""Makes a terminal erase what a progress display has left in the current line, and show its cursor."""

FOREVER = float("inf")

Describe = Callable[[str], str]
"""Given a signal's name, returns the line that says what it has stopped, and how to continue."""

_guard: _Guard | None = None
_temporary_folders: set[Path] = set()


def end_on_signal(command: Callable[[], None]) -> None:
    """Run a command of the terminal; on a signal the process ends with one line, and leaves no process behind.

    A command that finishes in spite of a signal counts as finished. Call it in the main thread.
    """
    guard = _Guard(on_terminal=True)
    try:  # around everything that happens while the handlers are installed: they may raise at any line
        guard.open()
        command()
        guard.deferred = True
    except BaseException as error:
        guard.deferred = True
        with suppress(OSError, ValueError):  # its reader has ended, or it is closed
            sys.stdout.flush()
        if isinstance(error, StoppedError):
            guard.end(error)
        if guard.signal is not None and not (isinstance(error, SystemExit) and not error.code):
            guard.end(guard.stopped())
        raise
    finally:
        guard.close()


@contextmanager
def stop_on_signal(describe: Describe) -> Iterator[None]:
    """Raise StoppedError out of the block when a signal comes.

    Blocks may be nested; the innermost one describes what a signal has stopped. A block that ends normally in spite of
    a signal has finished its work, and nothing is raised. Outside the main thread, where Python installs no signal
    handlers, nothing changes.

    Args:
        describe: Returns the message of the error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_outermost = _guard is None
    guard = _guard or _Guard(on_terminal=False)
    guard.describe.append(describe)
    try:
        if is_outermost:
            guard.open()
        yield
    except BaseException as error:
        if guard.signal is None or isinstance(error, StoppedError):
            raise
        raise guard.stopped() from None
    finally:
        guard.describe.pop()
        if is_outermost:
            guard.close()


@contextmanager
def deferred() -> Iterator[None]:
    """Keep signals from raising inside the block, except in `interruptible` waits and `check_stop`.

    For code of a library that must not be left at any line, e.g. between a request and its answer.
    """
    guard = _own_guard()
    if guard is None:
        yield
        return
    before, guard.deferred = guard.deferred, True
    try:
        yield
    finally:
        guard.deferred = before


@contextmanager
def interruptible() -> Iterator[float]:
    """Let a signal end a wait inside a `deferred` block.

    Yields:
        Longest time that the wait may take, in seconds: infinite, except in `last_work`.

    Raises:
        StoppedError: A signal came during the wait, or before.
    """
    guard = _own_guard()
    if guard is None:
        yield FOREVER
        return
    before = guard.deferred
    try:
        guard.deferred = False
        check_stop()
        yield max(0.0, guard.work_until - time.monotonic()) if guard.signal is not None else FOREVER
    except BaseException as error:
        if guard.signal is None or isinstance(error, StoppedError):
            raise
        raise guard.stopped() from None
    finally:
        guard.deferred = before


@contextmanager
def last_work(limit_s: float) -> Iterator[None]:
    """Let waits in the block, which runs after a signal, continue for a limited time.

    Args:
        limit_s: Longest time in seconds, together with the time since the signal.
    """
    guard = _own_guard()
    if guard is None:
        yield
        return
    guard.work_until = guard.signalled_at + limit_s
    try:
        yield
    finally:
        guard.work_until = -FOREVER


def stop_requested() -> bool:
    """Return whether a signal has come."""
    guard = _own_guard()
    return guard is not None and guard.signal is not None


def is_ending() -> bool:
    """Return whether a signal has come that ends this process, and with it all that it has started."""
    return _guard is not None and _guard.on_terminal and stop_requested()


def check_stop() -> None:
    """Raise if a signal has come, except in `last_work`.

    Raises:
        StoppedError: It has.
    """
    if stop_requested():
        assert _guard is not None
        if time.monotonic() >= _guard.work_until:
            raise _guard.stopped()


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Start processes that Ctrl-C in a terminal does not reach: they would only print tracebacks.

    The process that starts them has to end them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, also by other programs
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Create a folder that exists until the block, or this process, ends (unless it is killed)."""
    with TemporaryDirectory(prefix=prefix, dir=parent) as name:
        folder = Path(name)
        _temporary_folders.add(folder)
        try:
            yield folder
        finally:
            _temporary_folders.discard(folder)


class _Guard:
    """Receives the signals of this process, from `open` to `close`.

    Args:
        on_terminal: After a signal nothing but one line may appear on the terminal.
    """

    def __init__(self, *, on_terminal: bool) -> None:
        self.describe: list[Describe] = []
        """Descriptions of the blocks that are running, the innermost last."""
        self.deferred = False
        """Whether a signal is only noted."""
        self.signal: int | None = None
        """Number of the first signal."""
        self.signalled_at = FOREVER
        """Time of the first signal, in seconds of the monotonic clock."""
        self.work_until = -FOREVER
        """Time until which waits continue in spite of the signal."""
        self.on_terminal = on_terminal
        self._raised = False
        self._stderr = os.dup(2)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # `set_wakeup_fd` requires it
        self._before: dict[signal.Signals, Any] = {}
        """Handlers to restore."""
        self._wakeup_before = -1

    def open(self) -> None:
        """Install the handlers, and start the thread."""
        global _guard
        _guard = self
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number is signal.SIGHUP and before is signal.SIG_IGN:  # by nohup
                continue
            # SIGINT is ignored, too, in a process that a script starts in the background. `kill -INT` is still obeyed.
            self._before[number] = before
            signal.signal(number, self._handle)

    def close(self) -> None:
        """Restore the handlers, and end the thread."""
        global _guard
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)
        os.close(self._stderr)
        _guard = None

    def stopped(self) -> StoppedError:
        """Return the error that says which signal has come, and what was stopped."""
        assert self.signal is not None, "no signal has come"
        name = signal.Signals(self.signal).name
        return StoppedError(self.describe[-1](name) if self.describe else f"stopped by {name}", self.signal)

    def end(self, error: StoppedError) -> NoReturn:
        """End this process and all that it has started, with one line. For any thread and any moment."""
        for folder in tuple(_temporary_folders):
            shutil.rmtree(folder, ignore_errors=True)
        for process in _descendants(os.getpid()):
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        # From here on without delay: the threads of Ray in this process notice that its other processes are gone.
        with suppress(OSError):  # the terminal was closed
            for stream in (self._stderr, 1):
                if self.on_terminal and os.isatty(stream):
                    os.write(stream, CLEAR_LINE)
            os.write(self._stderr, f"tlpo: {error}\n".encode())
        os._exit(SIGNALLED + error.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        if not self._raised:
            self._raised = True
            if not self.deferred:
                raise KeyboardInterrupt

    def _note(self, number: int) -> None:
        if self.signal is None:
            self.signalled_at, self.signal = time.monotonic(), number
            if self.on_terminal:
                _silence_errors()

    def _watch(self) -> None:
        while True:
            left = None if self.signal is None else max(0.0, self.signalled_at + GRACE_S - time.monotonic())
            if select.select([self._reader], [], [], left)[0]:
                numbers = os.read(self._reader, 64)
                if not numbers:  # `close` has been called
                    os.close(self._reader)
                    return
                if not (numbers := bytes(set(numbers) & set(SIGNALS))):
                    continue
                self._note(numbers[0])
                if time.monotonic() - self.signalled_at <= REPEAT_S:
                    continue
            self.end(self.stopped())


def _silence_errors() -> None:
    """Drop what destructors, other threads and C++ libraries may still report about an interrupted process."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    sys.stderr = os.fdopen(null, "w")  # a progress display has another one meanwhile, which leads to standard output
    logging.disable()  # and so may handlers of loggers


def _own_guard() -> _Guard | None:
    """Return what receives the signals, if this is the thread that they interrupt."""
    return _guard if threading.current_thread() is threading.main_thread() else None


def _descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes that a process has started, directly or not; none without /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(ancestor, ()))
    for process in found:
        found += children.get(process, ())
    return found


def _leave_signals_to_parent() -> None:
    """In a forked process: end by the signal itself, silently, instead of by the parent's handlers."""
    global _guard
    if _guard is not None:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        _guard = None


os.register_at_fork(after_in_child=_leave_signals_to_parent)
