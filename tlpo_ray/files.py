"""Files that are written whole or not at all, and folders that one process writes into."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tlpo_ray.errors import ResourceError, UserError, first_line

LOCK = ".lock"


def write_lines(file: Path, rows: Iterable[object]) -> None:
    """Write JSON lines, own scripts kept, whole or not at all."""
    with replacing(file) as partial, partial.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(file: Path, value: object) -> None:
    """Write JSON for people (indented, own scripts kept), whole or not at all; two processes may do so at once."""
    with replacing(file, f".{os.getpid()}.tmp") as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        OSError: the file is not there, or cannot be read.
        ValueError: it holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


@contextmanager
def replacing(file: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A path to write to, which takes the place of `file` when the block ends well, and else is gone."""
    partial = file.with_suffix(suffix)
    try:
        yield partial
        os.replace(partial, file)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def written(what: str, more: str = "") -> Iterator[None]:
    """A full disk or a closed folder becomes one line.

    Args:
        what: is written.
        more: what to do when there is room again.

    Raises:
        ResourceError: it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"cannot write {what}: {first_line(error)}; free space there or make it writable{more}"
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else writes into a folder as long as the block goes on, or this process.

    Raises:
        UserError: somebody does.
        ResourceError: this process may not write there.
    """
    with ExitStack() as stack:
        with written(f"to {folder}"):
            file = stack.enter_context((folder / LOCK).open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process works in {folder}: see status.json in it; wait for it, or stop it"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
