"""The first bytes of a file, which decide how it is read whatever its name is: compressed text is unpacked, tables are
recognised, and what is neither text nor a table is refused."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from tlpo_ray.errors import UserError, first_line

PACKED = (".gz", ".zst", ".xz", ".bz2")
"""Ends of the names of compressed files."""
BUFFER_BYTES = 256 * 2**10

_HEAD_BYTES = 512
_PACKERS: tuple[tuple[str, re.Pattern[bytes], Callable[[Any], Any]], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b"), lambda file: gzip.GzipFile(fileobj=file)),
    # A file of several frames may begin with one that holds no data (parallel zstd writes such files).
    (
        "zstd",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
        lambda file: pa.CompressedInputStream(file, "zstd"),
    ),
    ("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMAFile),
    ("bzip2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), bz2.BZ2File),
)
_TABLE = re.compile(rb"PAR1\x15|ARROW1\x00\x00|\xff\xff\xff\xff.{3}\x00", re.DOTALL)
_NOT_TEXT: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("a ZIP archive or an Office document", re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)")),
    ("a tar archive", re.compile(rb".{257}ustar", re.DOTALL)),
    ("a 7z archive", re.compile(rb"7z\xbc\xaf\x27\x1c")),
    ("a RAR archive", re.compile(rb"Rar!\x1a\x07")),
    ("an LZ4 file", re.compile(rb"\x04\x22\x4d\x18")),
    ("an Office document", re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")),
    ("a PDF document", re.compile(rb"%PDF-")),
    ("an SQLite database", re.compile(rb"SQLite format 3\x00")),
    ("an HDF5 file", re.compile(rb"\x89HDF\r\n")),
    ("a NumPy array", re.compile(rb"\x93NUMPY")),
    ("a pickle", re.compile(rb"\x80[\x02-\x05]")),
    ("a GGUF model", re.compile(rb"GGUF[\x01-\x0f]\x00")),
    ("a safetensors file", re.compile(rb".{5}\x00{3}\{\"", re.DOTALL)),
    ("UTF-16 text; convert it to UTF-8", re.compile(re.escape(codecs.BOM_UTF16_LE) + b"|" + codecs.BOM_UTF16_BE)),
    (
        "a Git LFS pointer, which stands for a file that is not here; fetch it with `git lfs pull`",
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
    ),
)


@contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turn errors of the disk and of damaged files, while the block reads a file, into one line.

    Raises:
        UserError: The file called `name` cannot be read.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise UserError(f"{name}: damaged compressed file ({first_line(error)})") from error
    except pa.ArrowException as error:
        raise UserError(f"{name}: damaged Parquet or Arrow file ({first_line(error)})") from error
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or first_line(error)}") from error


def unpack(name: str, file: io.BufferedReader) -> io.BufferedReader:
    """Return the unpacked bytes of a file that is compressed, and any other file unchanged.

    The first bytes decide, not the name: standard input has none, and files under other names are unpacked as well.

    Raises:
        UserError: The file, or what is packed in it, is known to be neither text nor a table, or a table is packed.
        OSError: The file cannot be read. See `read_errors`.
    """
    head = _head(file)
    _refuse_other(name, head)
    for packer, magic, opened in _PACKERS:
        if magic.match(head):
            inner = io.BufferedReader(opened(file), BUFFER_BYTES)
            inner_head = _head(inner)
            _refuse_other(f"{name}, unpacked", inner_head)
            if is_table(inner_head) or any(again.match(inner_head) for _, again, _ in _PACKERS):
                kind = "a Parquet or Arrow file" if is_table(inner_head) else "compressed data once more"
                raise UserError(f"{name}: {packer} holds {kind}; unpack it first")
            return inner
    return file


def has_table(file: io.BufferedReader) -> bool:
    """Return whether a file that is read from its beginning is a Parquet or Arrow file."""
    return is_table(_head(file))


def is_table(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a Parquet or Arrow file."""
    return _TABLE.match(head) is not None


def _head(file: io.BufferedReader) -> bytes:
    return file.peek(_HEAD_BYTES)[:_HEAD_BYTES]


def _refuse_other(name: str, head: bytes) -> None:
    for kind, magic in _NOT_TEXT:
        if magic.match(head):
            raise UserError(f"{name}: {kind}" if ";" in kind else f"{name}: {kind}, which is not read here")
