"""Writing files completely or not at all, one message for every disk error, and locks on folders."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tlpo_ray.errors import ResourceError, UserError, first_line

LOCK = ".lock"
"""File in a locked folder; it stays there, only the lock on it ends."""


def write_lines(file: Path, rows: Iterable[object]) -> None:
    """Write one JSON value per line, completely or not at all; non-ASCII characters are not escaped."""
    with atomic_write(file) as partial, partial.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(file: Path, value: object) -> None:
    """Write JSON for people, completely or not at all: indented, and non-ASCII characters are not escaped.

    Two processes may write the same file at once; the last one wins.
    """
    with atomic_write(file, f".{os.getpid()}.tmp") as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file holds something other than one JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""Yield the JSON object on each line of a file with the number of the line, counted from 1; skip blank lines.

    Only "\n" ends a line: `str.splitlines` would also cut at U+2028, U+2029 and U+0085, which JSON allows in strings.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: A line is not a JSON object; the message names the file and the line.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not content.strip():
                continue
            try:
                value = json.loads(content.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file} line {number}: not JSON ({first_line(error)})") from error
            if not isinstance(value, dict):
                raise UserError(f"{file} line {number}: expected a JSON object, found {type(value).__name__}")
            yield number, value


@contextmanager
def atomic_write(file: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a path to write to; it replaces `file` when the block ends, and is removed if the block raises.

    A reader therefore sees the old file or the new one, never half of one. Rename is atomic within a file system, so
    the path is in the folder of `file`.

    Args:
        file: The file to write.
        suffix: Suffix of the path instead of that of `file`; must be unique among concurrent writers.
    """
    partial = file.with_suffix(suffix)
    try:
        yield partial
        os.replace(partial, file)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def share_weights(folder: Path) -> None:
    """Give the safetensors files of a folder the mode that every other new file in it has.

    safetensors (0.8.0) writes a temporary file that only its owner can read, and renames it: a model on shared storage
    could be read by nobody else, whatever the umask.

    Raises:
        OSError: The folder cannot be written.
    """
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


@contextmanager
def disk_errors(what: str, more: str = "") -> Iterator[None]:
    """Turn every OSError of a block that writes, e.g. on a full disk, into a one-line ResourceError.

    Args:
        what: What is written, for the message.
        more: What to do once the disk can be written to again, for the end of the message.

    Raises:
        ResourceError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"cannot write {what}: {first_line(error)}; free space there or make it writable{more}"
        ) from error


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder until the block, or this process, ends.

    The operating system releases the lock when the process dies, so that a killed run can be resumed.

    Raises:
        UserError: Another process has locked the folder.
        ResourceError: This process may not write there.
    """
    with ExitStack() as stack:
        with disk_errors(f"to {folder}"):
            file = stack.enter_context((folder / LOCK).open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process writes into {folder}: see status.json in it; wait for that process to end, or stop it"
            ) from error
        except OSError:  # a file system without locks: nothing can be checked there
            pass
        yield
