"""A command in a terminal that is interrupted, again and again, at random moments.

`make interrupts` does it to a quickstart of the toy model, `python -m tests.interrupts 50 quickstart --model smollm2`
to one of a real model. Each time the command has to end with one line and without a process left behind, and the next
one has to continue where it stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

TLPO = str(Path(sys.executable).with_name("tlpo"))
CTRL_C, TERM, TO_ALL, CLOSED = "Ctrl-C", "SIGTERM", "SIGTERM to all", "closed terminal"
WAYS = {CTRL_C: signal.SIGINT, TERM: signal.SIGTERM, TO_ALL: signal.SIGTERM, CLOSED: signal.SIGHUP}
"""Ways to interrupt a command, with the signal that it gets."""
WEIGHTS = (5, 3, 1, 1)
"""How often each of them is chosen, in relation to the others."""
END_S = 35.0
"""Seconds within which an interrupted command ends: its grace, and what a busy machine needs."""
LEFT_S = 5.0
"""Seconds within which all its processes are gone."""
START_S, WORK_S = 20.0, 20.0
"""Defaults of the latest moments of an interrupt (`wait_for_moment`)."""
EARLIEST_S = 0.2
"""Seconds after which the command has certainly begun: an interpreter that starts prints a traceback of its own."""
SHARE_AT_START = 0.35
"""Share of the interrupts that come while a command starts."""
TEMPORARY = "tmp"
"""Folder for the commands' temporary files."""
SIZE = 50, 200
"""Lines and columns of the terminal: the longest line of a progress display fits."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A command on a terminal of its own, as a shell starts it; it ends with the block.

    Args:
        command: Program and arguments.
        errors: File for its error output, which the terminal would mix with the other.
        environment: Variables of its environment beside those of this process.
    """

    def __init__(self, command: Sequence[str], errors: Path, environment: Mapping[str, str] | None = None) -> None:
        self._errors = errors
        self._output = bytearray()
        self._device, slave = pty.openpty()
        termios.tcsetwinsize(slave, SIZE)

        def control_terminal() -> None:
            for number in WAYS.values():  # whoever started this test may ignore them
                signal.signal(number, signal.SIG_DFL)
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=file, start_new_session=True,
                env=os.environ | dict(environment or {}), preexec_fn=control_terminal,
            )  # fmt: skip
        os.close(slave)
        self.began = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def screen(self) -> str:
        """Everything that was written to the terminal, with its control sequences."""
        return self._output.decode(errors="replace")

    @property
    def last_line(self) -> str:
        """What the terminal shows in its last line that is not empty."""
        lines = [line.strip() for line in re.split(r"[\r\n]", CONTROL.sub("", self.screen))]
        return next((line for line in reversed(lines) if line), "")

    @property
    def errors(self) -> str:
        """What was written to the error output."""
        return self._errors.read_text(errors="replace")

    def interrupt(self, how: str) -> None:
        """Interrupt the command in one of the `WAYS`."""
        if how == CTRL_C:
            os.write(self._device, b"\x03")  # the terminal sends SIGINT to the processes in the foreground
        elif how == CLOSED:
            os.killpg(self.process.pid, signal.SIGHUP)
        elif how == TO_ALL:
            for process in self.processes():
                with suppress(OSError):
                    os.kill(process, signal.SIGTERM)
        else:
            os.kill(self.process.pid, signal.SIGTERM)

    def processes(self) -> dict[int, str]:
        """Return the command lines of all processes of the terminal, by their ids."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if session == self.process.pid and command:  # one that nobody has waited for has no command line
                    found[int(entry.name)] = command
        return found

    def kill(self) -> None:
        """Kill the command."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def _read(self) -> None:
        while True:
            try:
                self._output += os.read(self._device, 1 << 16)
            except OSError:  # the last process that had it open has ended
                os.close(self._device)
                return


@dataclass(slots=True, kw_only=True)
class Interrupt:
    """One interrupt, and what followed."""

    how: str
    at_s: float
    """Seconds since the command began."""
    where: str
    """What the run was doing."""
    code: int | None = None
    end_s: float = 0.0
    """Seconds until the command had ended."""
    line: str = ""
    faults: list[str] = field(default_factory=list)


def interrupted(terminal: Terminal, how: str, where: str) -> Interrupt:
    """Interrupt a command, and hold its end to what users are promised."""
    sent = time.monotonic()
    found = Interrupt(how=how, at_s=sent - terminal.began, where=where)
    terminal.interrupt(how)
    try:
        found.code = terminal.process.wait(END_S)
    except subprocess.TimeoutExpired:
        found.faults.append(f"still running after {END_S:g} s")
        terminal.kill()
    found.end_s = time.monotonic() - sent
    while (left := terminal.processes()) and time.monotonic() - sent - found.end_s < LEFT_S:
        time.sleep(0.05)
    lines = terminal.errors.splitlines()
    found.line = lines[-1] if lines else ""
    name, expected = WAYS[how].name, 128 + WAYS[how]
    if left:
        found.faults.append(f"{len(left)} processes left: {[command[:40] for command in left.values()]}")
    if found.code == 0:  # it had finished its work
        return found
    if found.code != expected:
        found.faults.append(f"exit code {found.code}, expected {expected}")
    if len(lines) != 1 or not found.line.startswith(f"tlpo: stopped by {name}"):
        found.faults.append(f"{len(lines)} lines of errors: {' | '.join(lines)[:2000]}")
    if "Traceback" in terminal.screen:
        found.faults.append(f"a traceback: {terminal.screen[terminal.screen.find('Traceback') :][:2000]}")
    if terminal.screen.rfind(HIDE) > terminal.screen.rfind(SHOW):
        found.faults.append("the cursor is hidden")
    return found


def works(folder: Path, terminal: Terminal) -> bool:
    """Return whether the run that a command has started, or resumed, rolls out by now."""
    try:
        return bool(json.loads((folder / "status.json").read_text())["pid"] == terminal.process.pid)
    except (OSError, ValueError, KeyError):
        return False


def stage(folder: Path, terminal: Terminal) -> str:
    """Describe what a run is doing, by what it has written and by what the terminal shows."""
    if not works(folder, terminal):
        return f"start: {terminal.last_line[:60] or 'nothing shown yet'}"
    if (folder / "model").exists():
        return f"after training: {terminal.last_line[:60]}"
    begun, done = (last_version(folder / "journal", prefix) for prefix in ("groups", "state"))
    return f"update {begun}" if begun > done else f"rollouts after update {done}"


def last_version(journal: Path, prefix: str) -> int:
    """Return the latest policy version of which a journal holds a file with this prefix; 0 without one."""
    return max((int(file.stem.rpartition("-")[2]) for file in journal.glob(f"{prefix}-*")), default=0)


def wait_for_moment(folder: Path, terminal: Terminal, chance: random.Random, start_s: float, work_s: float) -> None:
    """Wait until a command is to be interrupted, or has ended.

    Args:
        folder: Folder of its run.
        terminal: The command.
        chance: Decides the moment.
        start_s: Latest moment while it starts, in seconds since it began.
        work_s: Latest moment while it works, in seconds since its run rolls out.
    """
    at_start = chance.random() < SHARE_AT_START
    delay_s = chance.uniform(EARLIEST_S, start_s) if at_start else chance.uniform(0, work_s)
    began = terminal.began if at_start else None
    while terminal.process.poll() is None:
        if began is None and works(folder, terminal):
            began = time.monotonic()
        if began is not None and time.monotonic() - began >= delay_s:
            return
        time.sleep(0.02)


def interrupt_often(
    count: int, arguments: Sequence[str], root: Path, *, seed: int, start_s: float, work_s: float
) -> list[Interrupt]:
    """Interrupt runs of one command, and those that resume them, `count` times; then let the last one end.

    Args:
        count: Number of interrupts.
        arguments: Arguments of `tlpo`; the run's folder is added.
        root: Folder for everything.
        seed: Seed of moments and ways.
        start_s: See `wait_for_moment`.
        work_s: See `wait_for_moment`.
    """
    chance, found = random.Random(seed), list[Interrupt]()
    runs, is_resumed = 1, False
    temporary = root / TEMPORARY
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "RAY_TMPDIR": tempfile.gettempdir()}  # Ray's sockets need a short path
    while True:
        folder = root / f"run-{runs}"
        command = ["train", "--resume", str(folder)] if is_resumed else [*arguments, f"folder={folder}"]
        with Terminal([TLPO, *command], root / f"errors-{len(found) + 1}.txt", environment) as terminal:
            if len(found) < count:
                wait_for_moment(folder, terminal, chance, start_s, work_s)
                if terminal.process.poll() is None:
                    how = chance.choices(tuple(WAYS), WEIGHTS)[0]
                    found.append(interrupted(terminal, how, stage(folder, terminal)))
                    show(found[-1])
            code = terminal.process.wait()
        if code == 0 and len(found) >= count:
            return found
        if code == 0:
            runs, is_resumed = runs + 1, False
        elif code in {128 + number for number in WAYS.values()}:
            is_resumed = (folder / "config.yaml").exists()
        else:
            found.append(Interrupt(how="", at_s=0.0, where=f"tlpo {' '.join(command)}", code=code))
            found[-1].faults.append(f"it cannot continue: {terminal.errors[-2000:]}")
            show(found[-1])
            return found


def show(one: Interrupt) -> None:
    """Print one interrupt in a line."""
    faults = f"  FAULTS: {'; '.join(one.faults)}" if one.faults else ""
    sys.stdout.write(
        f"{one.how:<16} at {one.at_s:6.1f} s  {one.where:<70} exit code {one.code} after {one.end_s:4.1f} s{faults}\n"
    )
    sys.stdout.flush()


def main() -> None:
    """Interrupt a command again and again, print how it ended each time, and fail if it did not as it should."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="What is not listed here goes to tlpo; default: quickstart"
    )
    parser.add_argument("count", type=int, nargs="?", default=15, help="number of interrupts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=float, default=START_S, help="latest moment while a command starts, seconds")
    parser.add_argument("--work", type=float, default=WORK_S, help="latest moment while a run works, seconds")
    parser.add_argument("--into", type=Path, default=Path("runs/interrupts"), help="folder for everything")
    options, arguments = parser.parse_known_args()
    shutil.rmtree(options.into, ignore_errors=True)
    options.into.mkdir(parents=True)
    root = options.into.resolve()
    found = interrupt_often(
        options.count, arguments or ["quickstart"], root, seed=options.seed, start_s=options.start, work_s=options.work
    )
    faulty, left = [one for one in found if one.faults], list((root / TEMPORARY).glob("tlpo-*"))
    slowest = max(found, key=lambda one: one.end_s)
    kinds = Counter((one.how, one.where.partition(":")[0].rstrip(" 0123456789")) for one in found)
    for (how, where), number in sorted(kinds.items()):
        sys.stdout.write(f"{number:>3} x {how}, {where}\n")
    sys.stdout.write(
        f"{len(found)} interrupts, {len(faulty)} with faults, {len(left)} temporary folders left; the slowest end took "
        f"{slowest.end_s:.1f} s ({slowest.how}, {slowest.where})\n"
    )
    sys.exit(bool(faulty or left))


if __name__ == "__main__":
    main()
