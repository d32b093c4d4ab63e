"""Inputs of `tlpo detect`: files, folders and standard input, one line at a time whatever their size."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tlpo_ray.data.columns import TABLES
from tlpo_ray.data.folders import data_format, files_in, without_metadata
from tlpo_ray.data.unpack import BUFFER_BYTES, PACKED, has_table, read_errors, unpack
from tlpo_ray.detect.request import InputFormat
from tlpo_ray.errors import UserError

SourceFormat = Literal[InputFormat, "table"]
FORMATS: dict[str, SourceFormat] = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    **dict.fromkeys(TABLES, "table"),
}
"""Format of a file by the end of its name, that of a compressed file aside."""
STDIN = "-"

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
    format: SourceFormat
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
            nbytes = _nbytes(path)
            path_format = "table" if _is_table(path) else input_format or FORMATS.get(_suffix(path), default)
            sources.append(Source(name=str(path), path=path, format=path_format, nbytes=nbytes))
    return sources


@contextmanager
def open_source(source: Source, on_read: OnRead) -> Iterator[io.BufferedReader]:
    """Open a source and yield its bytes, unpacked if they are compressed.

    Raises:
        UserError: The source cannot be opened, is neither text nor a table or, while the block runs, cannot be read.
    """
    with ExitStack() as stack:
        stack.enter_context(read_errors(source.name))
        if source.path is None:
            stdin = cast(io.BufferedReader, sys.stdin.buffer)
            if has_table(stdin):
                raise UserError(f"{source.name}: a Parquet or Arrow file; give it by its name")
            yield unpack(source.name, stdin)
            return
        raw = source.path.open("rb", buffering=0)
        file: Any = stack.enter_context(io.BufferedReader(_WatchedFile(raw, on_read), BUFFER_BYTES))
        yield file if source.format == "table" else unpack(source.name, file)


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

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def close(self) -> None:
        self._file.close()
        super().close()


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that have a known format, sorted by name; hidden files are excluded."""
    files = without_metadata(files_in(folder, lambda file: _suffix(file) in FORMATS))
    if not files:
        raise UserError(
            f"{folder}: no text in this folder; expected {', '.join(FORMATS)}, each also with {', '.join(PACKED)}"
        )
    return files


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _is_table(path: Path) -> bool:
    """Return whether a file is a Parquet or Arrow file by its name or content; a pipe is not looked into."""
    if data_format(path) in TABLES:
        return True
    with read_errors(str(path)), ExitStack() as stack:
        return path.is_file() and has_table(stack.enter_context(path.open("rb")))


def _nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
