"""What `tlpo detect` reads: files, folders and standard input, a line at a time however large they are."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tlpo_ray.errors import UserError

Format = Literal["text", "jsonl", "csv"]
ENDINGS: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
STDIN = "-"
LONGEST_LINE = 64 * 2**20
"""Bytes; what has longer lines is no text, and would not fit in memory."""
_BUFFER = 256 * 2**10
_BYTE_ORDER_MARK = "\ufeff"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"

Advance = Callable[[int], None]
"""Is told of bytes that were read from a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One stream of units.

    Example: ``Source(name="answers/ko.csv.gz", path=Path("answers/ko.csv.gz"), format="csv", size=671727)``
    """

    name: str
    """As output and errors call it."""
    path: Path | None
    """None: standard input."""
    format: Format
    size: int = 0
    """Bytes on disk; 0 where that is not known."""


class Lines(Iterator[str]):
    """Lines of text with their line ends. Bytes that are not UTF-8 become lone surrogates, which are no evidence.

    Raises:
        UserError: reading fails, or a line is too long to be one.
    """

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name = name
        self._file = file
        self.number = 0
        """Of the line that was read last, from 1."""
        self.not_utf8 = 0
        """Lines with bytes that are not UTF-8."""

    def __next__(self) -> str:
        line = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > LONGEST_LINE:
            raise UserError(f"{self._name} line {self.number}: longer than {LONGEST_LINE >> 20} MiB, no text by lines")
        text = self._decoded(line)
        return text if self.number > 1 else text.removeprefix(_BYTE_ORDER_MARK)

    def _read(self) -> bytes:
        try:
            return self._file.readline(LONGEST_LINE + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{self._name}: damaged gzip file ({error})") from error
        except OSError as error:
            raise UserError(f"{self._name}: {error.strerror or error}") from error

    def _decoded(self, line: bytes) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.number == 1 and line.startswith(_UTF_16):
                raise UserError(f"{self._name}: UTF-16 text; convert it to UTF-8") from error
            self.not_utf8 += 1
            return line.decode("utf-8", "surrogateescape")


def sources(files: Sequence[Path], input_format: Format | None, has_fields: bool) -> list[Source]:
    """What to read, in the order given and folders by name.

    Args:
        files: files and folders; none, or `-`, is standard input.
        input_format: of all of them; None goes by the ending of each.
        has_fields: whether what has no known ending is JSONL rather than plain text.

    Raises:
        UserError: something is not there, or a folder holds nothing that could be read.
    """
    if not files and sys.stdin.isatty():
        raise UserError("nothing to read: give files or folders, pipe text in, or type it after `tlpo detect -`")
    other: Format = "jsonl" if has_fields else "text"
    found: list[Source] = []
    for file in files or [Path(STDIN)]:
        if str(file) == STDIN:
            found.append(Source(name="stdin", path=None, format=input_format or other))
            continue
        for path in _in_folder(file) if file.is_dir() else [file]:
            kind = input_format or ENDINGS.get(_ending(path), other)
            found.append(Source(name=str(path), path=path, format=kind, size=_size(path)))
    return found


@contextmanager
def opened(source: Source, advance: Advance) -> Iterator[Lines]:
    """The lines of a source, unpacked if it is gzip."""
    if source.path is None:
        yield Lines(source.name, _unpacked(sys.stdin.buffer))
        return
    try:
        raw = source.path.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"{source.name}: {error.strerror}") from error
    with io.BufferedReader(_Watched(raw, advance), _BUFFER) as file:
        yield Lines(source.name, _unpacked(file))


class _Watched(io.RawIOBase):
    """A file that says how much of it has been read."""

    def __init__(self, file: io.FileIO, advance: Advance) -> None:
        self._file = file
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        read = self._file.readinto(buffer)
        self._advance(read or 0)
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """By the first bytes, so that standard input and files under other names unpack too."""
    is_gzip = isinstance(file, io.BufferedReader) and file.peek(len(_GZIP)).startswith(_GZIP)
    return gzip.GzipFile(fileobj=file) if is_gzip else file  # type: ignore[return-value]  # reads like an IO[bytes]


def _in_folder(folder: Path) -> list[Path]:
    """Files with a known ending, by name; nothing hidden."""
    found = sorted(
        file
        for file in folder.rglob("*")
        if _ending(file) in ENDINGS and file.is_file() and not _is_hidden(file.relative_to(folder))
    )
    if not found:
        raise UserError(f"{folder}: no text in this folder; expected {', '.join(ENDINGS)}, each also as .gz")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
