"""Signals at any line: one error inside the library, one line and no process left on the terminal."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tlpo_ray import stopping
from tlpo_ray.errors import StoppedError
from tlpo_ray.stopping import (
    check_stop,
    deferred,
    interruptible,
    last_work,
    out_of_reach,
    stop_on_signal,
    stop_requested,
    temporary_folder,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONG_S = 60.0
SOON_S = 0.2


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    if earlier[signal.SIGHUP] is signal.SIG_IGN:  # by nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    signal.signal(signal.SIGHUP, earlier[signal.SIGHUP])
    assert signal.set_wakeup_fd(-1) == -1


def send(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def send_soon(number: signal.Signals = signal.SIGTERM) -> None:
    threading.Timer(SOON_S, send, (number,)).start()


def stop() -> AbstractContextManager[None]:
    return stop_on_signal(lambda name: f"stopped by {name}; all is well")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_becomes_one_error_with_its_number_and_what_was_stopped(number: signal.Signals) -> None:
    with pytest.raises(StoppedError, match=f"^stopped by {number.name}; all is well$") as stopped, stop():
        send(number)
        time.sleep(LONG_S)
    assert stopped.value.signal == number
    assert not stop_requested()


@pytest.mark.parametrize("error", [SystemError("<built-in> returned with an exception set"), SystemExit(15), OSError()])
def test_whatever_an_interrupted_library_raises_becomes_that_error(error: BaseException) -> None:
    with pytest.raises(StoppedError, match=r"^stopped by SIGINT; all is well$") as stopped, stop():
        try:
            send(signal.SIGINT)
            time.sleep(LONG_S)
        except KeyboardInterrupt:
            raise error from None
    assert stopped.value.__cause__ is None
    assert stopped.value.__suppress_context__


def test_without_a_signal_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), stop():
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), stop():
        raise KeyboardInterrupt


def test_a_block_that_swallows_the_exception_stops_at_the_next_check_or_has_finished_its_work() -> None:
    def swallow() -> None:
        try:
            send()
            time.sleep(LONG_S)
        except KeyboardInterrupt:
            pass

    with pytest.raises(StoppedError), stop():
        swallow()
        check_stop()
    with stop():
        swallow()
        assert stop_requested()
    with stop():  # the next block begins anew
        check_stop()


def test_a_deferred_signal_is_only_noted_until_the_next_wait() -> None:
    done = []
    with pytest.raises(StoppedError), stop(), deferred():
        send()
        done.append("the rest of the block")
        with interruptible():
            done.append("a wait")
    assert done == ["the rest of the block"]


def test_a_signal_ends_a_wait_that_has_begun() -> None:
    began = time.monotonic()
    with pytest.raises(StoppedError), stop(), deferred():
        send_soon()
        with interruptible() as limit_s:
            assert limit_s == float("inf")
            time.sleep(LONG_S)
    assert time.monotonic() - began < LONG_S / 2


def test_after_a_deferred_block_signals_raise_again() -> None:
    with pytest.raises(StoppedError), stop():
        with deferred():
            pass
        send()
        time.sleep(LONG_S)


def test_after_a_signal_there_is_some_time_for_last_work() -> None:
    done = []
    with pytest.raises(StoppedError), stop(), deferred():
        send()
        with last_work(LONG_S), interruptible() as limit_s:
            assert 0 < limit_s <= LONG_S
            done.append("in time")
        with last_work(0.0), interruptible():
            done.append("too late")
    assert done == ["in time"]


def test_the_innermost_block_says_what_was_stopped() -> None:
    def outer(name: str) -> str:
        return f"{name}, outer"

    with (
        pytest.raises(StoppedError, match=r"^SIGTERM, inner$"),
        stop_on_signal(outer),
        stop_on_signal(lambda name: f"{name}, inner"),
    ):
        send()
        time.sleep(LONG_S)
    with pytest.raises(StoppedError, match=r"^SIGTERM, outer$"), stop_on_signal(outer):
        with stop_on_signal(lambda name: f"{name}, inner"):
            pass
        send()
        time.sleep(LONG_S)


def test_outside_the_main_thread_nothing_changes() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop(), deferred(), interruptible():
            check_stop()
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_process_dies_of_the_signal_and_its_parent_is_not_stopped() -> None:
    with stop():
        child = os.fork()
        if not child:
            time.sleep(LONG_S)
            os._exit(0)
        time.sleep(SOON_S)
        os.kill(child, signal.SIGINT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGINT
        check_stop()


def test_ctrl_c_does_not_reach_processes_that_were_started_out_of_its_reach() -> None:
    with out_of_reach():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.send_signal(signal.SIGINT)
    time.sleep(SOON_S)
    assert child.poll() is None
    child.communicate(b"\n")
    assert child.returncode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_temporary_folder_ends_with_its_block(tmp_path: Path) -> None:
    with temporary_folder("a-", tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    assert not folder.exists()


# Commands of a terminal, in processes of their own. Each is the body of a function `command` that `end_on_signal` runs.
# It prints a line when it is ready for a signal.

PROGRAM = """
import ctypes, os, signal, subprocess, sys, threading, time
from contextlib import AbstractContextManager
from pathlib import Path
from tlpo_ray import stopping
from tlpo_ray.stopping import *

def ready():
    print("ready", flush=True)

def command():
{body}

signal.signal(signal.SIGINT, signal.SIG_DFL)
stopping.end_on_signal(command)
"""


def start(body: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command, and wait until it is ready."""
    program = PROGRAM.format(body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal to a command that has to end by it; returns its error output."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + number
    return errors


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_with_one_line(number: signal.Signals) -> None:
    assert ended(start("ready()\ntime.sleep(60)"), number) == f"tlpo: stopped by {number.name}\n"


def test_nothing_else_is_written_after_the_signal() -> None:
    body = """
import logging
class Noisy:
    def __del__(self):
        raise ValueError("in a destructor")
sys.stderr = sys.stdout  # as a progress display does
logging.basicConfig(stream=sys.stdout)
threading.Thread(target=lambda: (time.sleep(1), 1 / 0), daemon=True).start()
try:
    ready()
    time.sleep(60)
finally:
    Noisy()
    logging.error("a process was lost")
    os.write(2, b"from a library in C++")
    time.sleep(1.5)
    raise SystemError("error return without exception set")
"""
    process = start(body)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, out, errors) == (128 + signal.SIGINT, "", "tlpo: stopped by SIGINT\n")


def test_a_block_of_the_command_describes_what_was_stopped() -> None:
    body = """
with stop_on_signal(lambda name: f"{name} has stopped it"), deferred(), interruptible():
    ready()
    time.sleep(60)
"""
    assert ended(start(body), signal.SIGTERM) == "tlpo: SIGTERM has stopped it\n"


def test_a_command_that_finishes_in_spite_of_a_signal_has_finished() -> None:
    body = """
with deferred():
    ready()
    while not stop_requested():
        time.sleep(0.01)
print("done")
sys.exit(0)
"""
    process = start(body)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, out, errors) == (0, "done\n", "")


def test_a_second_signal_ends_a_command_that_hangs(tmp_path: Path) -> None:
    # On a busy machine, signals that are sent at once are read one after the other.
    repeat_s = 4 * stopping.REPEAT_S
    body = (
        f"stopping.REPEAT_S = {repeat_s}"
        + """
with temporary_folder("spool-", Path(sys.argv[1])) as folder:
    (folder / "prompts").write_text("many")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        print(f"ready\\n{child.pid}", flush=True)
        time.sleep(60)
    finally:
        time.sleep(600)
"""
    )
    process = start(body, tmp_path)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # at once: the same request
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(repeat_s + SOON_S)
    assert ended(process, signal.SIGINT) == "tlpo: stopped by SIGINT\n"
    assert has_ended(child)
    assert not list(tmp_path.iterdir())


def has_ended(process: int) -> bool:
    """Return whether a process ends soon. One that nobody waits for remains in the list, without a command line."""
    command = Path(f"/proc/{process}/cmdline")
    began = time.monotonic()
    while command.exists() and command.read_bytes():
        if time.monotonic() - began > LONG_S:
            return False
        time.sleep(0.01)
    return True


HANGS: dict[str, str] = {
    "in Python": "try:\n    ready()\n    time.sleep(60)\nfinally:\n    time.sleep(60)",
    "in compiled code that no signal ends": """
mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
ready()
libc.pthread_mutex_lock(mutex)
""",
    "with signals deferred": "with deferred():\n    ready()\n    while True:\n        time.sleep(1)",
    "with the exception swallowed": """
ready()
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
""",
}


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the size of a mutex")
@pytest.mark.parametrize("where", HANGS)
def test_a_command_that_hangs_after_a_signal_is_ended(where: str) -> None:
    process = start(f"stopping.GRACE_S = 1.0\n{HANGS[where].strip()}")
    assert ended(process, signal.SIGTERM) == "tlpo: stopped by SIGTERM\n"


def test_a_command_started_by_nohup_does_not_end_with_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("ready()\ntime.sleep(1)\nprint('done')")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    out, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, out, errors) == (0, "done\n", "")


def test_ctrl_c_reaches_a_command_that_a_script_has_started_in_the_background() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start("ready()\ntime.sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended(process, signal.SIGINT) == "tlpo: stopped by SIGINT\n"


def test_the_real_command_ends_with_one_line_while_it_imports(tmp_path: Path) -> None:
    """`python -X importtime` shows on its error output how far the imports are."""
    tlpo = [sys.executable, "-X", "importtime", "-m", "tlpo_ray", "evaluate", "--help"]
    process = subprocess.Popen(tlpo, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(" typer"):
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=LONG_S)
    assert "Traceback" not in rest
    assert [line for line in rest.splitlines() if line.startswith("tlpo:")] == ["tlpo: stopped by SIGINT"]
    assert process.returncode == 128 + signal.SIGINT
