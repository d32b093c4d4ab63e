"""Inputs of `tlpo detect`: files, folders and standard input, one line at a time whatever their size."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.data.tables import TextLines, read_errors, unpack
from tlpo_ray.detect.request import InputFormat
from tlpo_ray.errors import UserError

FORMATS: dict[str, InputFormat] = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
"""Format of a file by the end of its name, `.gz` aside."""
STDIN = "-"
_BUFFER_BYTES = 256 * 2**10

OnRead = Callable[[int], None]
"""Receives the number of bytes that were read from disk since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input.

    Example: ``Source(name="answers/ko.csv.gz", path=Path("answers/ko.csv.gz"), format="csv", nbytes=671727)``
    """

    name: str
    """The input, as output and error messages name it."""
    path: Path | None
    """None for standard input."""
    format: InputFormat
    nbytes: int = 0
    """Size on disk; 0 where it is not known."""


def find_sources(files: Sequence[Path], input_format: InputFormat | None, has_fields: bool) -> list[Source]:
    """Return the inputs in the given order, the files of a folder sorted by name.

    Args:
        files: files and folders; standard input if there are none, and for `-`.
        input_format: format of all of them; None decides by the end of each name.
        has_fields: whether a file with an unknown end is JSONL rather than plain text.

    Raises:
        UserError: A file does not exist, or a folder contains no file that can be read.
    """
    if not files and sys.stdin.isatty():
        raise UserError("nothing to read: give files or folders, pipe text in, or type it after `tlpo detect -`")
    default: InputFormat = "jsonl" if has_fields else "text"
    sources: list[Source] = []
    for file in files or [Path(STDIN)]:
        if str(file) == STDIN:
            sources.append(Source(name="stdin", path=None, format=input_format or default))
            continue
        for path in _files_in(file) if file.is_dir() else [file]:
            path_format = input_format or FORMATS.get(_suffix(path), default)
            sources.append(Source(name=str(path), path=path, format=path_format, nbytes=_nbytes(path)))
    return sources


@contextmanager
def open_lines(source: Source, on_read: OnRead) -> Iterator[TextLines]:
    """Open a source and yield its lines, unpacked if it is a gzip stream.

    Raises:
        UserError: The source cannot be opened or, while the block runs, cannot be read.
    """
    with ExitStack() as stack:
        stack.enter_context(read_errors(source.name))
        if source.path is None:
            yield TextLines(source.name, unpack(sys.stdin.buffer))
            return
        raw = source.path.open("rb", buffering=0)
        file = stack.enter_context(io.BufferedReader(_WatchedFile(raw, on_read), _BUFFER_BYTES))
        yield TextLines(source.name, unpack(file))


class _WatchedFile(io.RawIOBase):
    """A file that reports how many bytes are read from disk: buffers and gzip are above it, so sizes are comparable."""

    def __init__(self, file: io.FileIO, on_read: OnRead) -> None:
        self._file = file
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        nbytes = self._file.readinto(buffer)
        self._on_read(nbytes or 0)
        return nbytes

    def close(self) -> None:
        self._file.close()
        super().close()


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that have a known format, sorted by name; hidden files are excluded."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if _suffix(file) in FORMATS and file.is_file() and not _is_hidden(file.relative_to(folder))
    )
    if not files:
        raise UserError(f"{folder}: no text in this folder; expected {', '.join(FORMATS)}, each also as .gz")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
