r"""Readers of JSON lines, JSON lists and CSV files: streams of records, malformed ones among them.

Prompt files (`readers.py`) and the inputs of `tlpo detect` are read by the same functions. They differ in one respect:
a prompt must be valid UTF-8, whereas `tlpo detect` also judges text with damaged bytes. So JSON lines are accepted as
bytes (strict) and as `TextLines`, which keep damaged bytes as lone surrogates; `csv_records` has an option.

Everywhere a line ends at "\n" and nothing else. `str.splitlines` must not be used on these files: it would also cut at
U+2028, U+2029 and U+0085, which are ordinary characters inside a JSON string or a CSV field.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Literal

from tlpo_ray.errors import UserError

MAX_LINE_BYTES = 64 * 2**20
"""Longest line that `TextLines` accepts: a file with longer ones is not text and might not fit in memory."""
SNIPPET = 40
"""Characters of a malformed line that its error message shows."""
_BYTE_ORDER_MARK = "\ufeff"
_DELIMITERS = ",\t;"

RecordUnit = Literal["line", "item", "row"]


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with a record.

    Example: ``Defect("not JSON", " (Expecting value at column 1): nonsense")``
    """

    kind: str
    """Short reason without details, under which skipped records are counted."""
    detail: str = ""
    """Continuation of `kind` in an error message."""

    def __str__(self) -> str:
        return self.kind + self.detail


NUL = Defect("not text", " (a NUL byte)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a JSONL file, item of a JSON list, or row of a table.

    Example: ``Record(source="ko.jsonl", unit="line", number=3, content={"prompt": "안녕?"})``
    """

    source: str
    """The file or dataset, as error messages name it."""
    unit: RecordUnit
    number: int
    """Number of the line, item or row, from 1; the header of a table does not count."""
    content: Mapping[str, object] | Defect
    """Values by field name, or why there are none."""
    line: int | None = None
    """Line of the file on which the record begins, from 1; None where the reader does not know it."""

    @property
    def fields(self) -> Mapping[str, object] | None:
        """Values by field name; None if the record is malformed."""
        return None if isinstance(self.content, Defect) else self.content

    @property
    def problem(self) -> str:
        """What is wrong with a malformed record; empty for a good one."""
        return str(self.content) if isinstance(self.content, Defect) else ""

    @property
    def place(self) -> str:
        """File and line (or item, row), for error messages."""
        return f"{self.source} {self.unit} {self.number}" if self.line is None else f"{self.source} line {self.line}"

    @property
    def name(self) -> str:
        """Identifier of a record that has none of its own, e.g. "ko.jsonl:3"."""
        return f"{Path(self.source).name}:{self.number}"


class TextLines(Iterator[str]):
    """Iterator over the lines of a text file, line ends included, that holds one line in memory at a time.

    Bytes that are not UTF-8 become lone surrogates, which a detector takes as evidence of nothing. A byte order mark is
    dropped.

    Args:
        name: the file, as error messages name it.
        file: its unpacked bytes.

    Raises:
        UserError: A line is longer than `MAX_LINE_BYTES`.
    """

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = name
        self._file = file
        self.number = 0
        """Number of the line that was read last, from 1."""
        self.not_utf8 = 0
        """Number of lines with bytes that are not UTF-8."""

    def __next__(self) -> str:
        # Bounded: a file without a line end (e.g. /dev/zero) would otherwise be read into memory until that is full.
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_LINE_BYTES:
            limit = f"{MAX_LINE_BYTES >> 20} MiB"
            raise UserError(f"{self.name} line {self.number}: longer than {limit}; this is not a file of text lines")
        text = self._decode(line)
        return text if self.number > 1 else text.removeprefix(_BYTE_ORDER_MARK)

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.not_utf8 += 1
            return line.decode("utf-8", "surrogateescape")


def json_line_records(source: str, lines: Iterable[bytes | str]) -> Iterator[Record]:
    """Yield one record per line of a JSONL file; skip blank lines.

    Args:
        source: the file, as error messages name it.
        lines: bytes must be UTF-8; text (`TextLines`) may contain lone surrogates.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1 and isinstance(line, bytes):
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line.strip()
        if not line:
            continue
        value = _parse(line)
        if isinstance(value, Defect) and value.kind == _NOT_JSON and line[:1] in ("[", b"["):
            value = replace(value, detail=f"{value.detail}; a JSON list is not read here, write one record per line")
        yield _record(source, "line", number, value, line=number)


def json_list_records(source: str, file: IO[bytes]) -> Iterator[Record]:
    """Yield one record per item of a file that contains a single JSON list; the complete file is read into memory.

    Raises:
        UserError: The file is not a JSON list.
    """
    values = _parse(file.read().removeprefix(codecs.BOM_UTF8))
    if isinstance(values, Defect):
        raise UserError(f"{source}: {values}")
    if not isinstance(values, list):
        raise UserError(f"{source}: expected a JSON list, found {type(values).__name__}")
    for number, value in enumerate(values, start=1):
        yield _record(source, "item", number, value)


def is_json_list(file: io.BufferedReader) -> bool:
    """Return whether a JSON file contains one list (e.g. Bactrian-X) rather than one record per line.

    Looks ahead of the next byte to be read, which must be the first one.
    """
    return file.peek().removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def csv_records(
    lines: TextLines,
    check_header: Callable[[Sequence[str]], None] | None = None,
    *,
    delimiter: str | None = None,
    utf8_only: bool = False,
) -> Iterator[Record]:
    """Yield one record per row of a file separated by commas, tabs or semicolons; skip blank lines.

    Quoted fields may contain line breaks. A row with too many or too few values, a stray quote or a NUL byte is a
    malformed record, but only if it certainly ends where its line ends.

    Args:
        lines: the file.
        check_header: receives the names in the header before the first record, and may raise.
        delimiter: separator of the values; None recognises it by the header.
        utf8_only: whether a row with bytes that are not UTF-8 is malformed.

    Raises:
        UserError: The file is malformed in such a way that the beginning of the next record is unknown, or two columns
            have the same name.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    first = next(lines, None)
    if first is None:
        return
    row_lines: list[str] = []
    # Not `strict`, a quote that is never closed would silently take the rest of the file for one field.
    rows = csv.reader(
        _kept(chain([first], lines), row_lines),
        delimiter=delimiter or max(_DELIMITERS, key=first.count),
        strict=True,
    )
    header: list[str] | None = None
    number = damaged = 0
    while True:
        line = rows.line_num + 1
        row_lines.clear()
        try:
            row: list[str] | Defect = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            row = _csv_defect(lines.name, line, error, row_lines)
        if utf8_only and lines.not_utf8 > damaged:
            row, damaged = Defect("not UTF-8 text"), lines.not_utf8
        if header is None and row:
            header = _checked_header(lines.name, line, row)
            if check_header is not None:
                check_header(header)
        elif header is not None and row:
            number += 1
            content = row if isinstance(row, Defect) else _by_name(header, row)
            if len(row_lines) > 1 and isinstance(content, Defect) and content.kind == _WRONG_COUNT:
                raise UserError(
                    f"{lines.name} line {line}: {content}; a field in quotes makes it a record of {len(row_lines)} "
                    f"lines, so where it ends is unknown: check its quotes"
                )
            yield _record(lines.name, "row", number, content, line=line)


def snippet(text: str) -> str:
    """Return the beginning of some text of the input, without characters that a terminal would obey."""
    start = "".join(char if char.isprintable() else "�" for char in text[:SNIPPET])
    return start if len(text) <= SNIPPET else f"{start}…"


_NOT_JSON = "not JSON"
_WRONG_COUNT = "not as many fields as the header"


def _parse(text: bytes | str) -> object:
    """Return the JSON value of some text, or a `Defect`."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text)
    except UnicodeDecodeError as error:
        return Defect("not UTF-8 text", f" (byte {error.start + 1} is 0x{error.object[error.start]:02x})")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return Defect(_NOT_JSON, f" ({error.msg} at {place}): {snippet(error.doc)}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        return Defect(_NOT_JSON, f" ({error}): {snippet(str(text))}")


def _record(source: str, unit: RecordUnit, number: int, value: object, line: int | None = None) -> Record:
    content = (
        value
        if isinstance(value, dict | Defect)
        else Defect("not an object with fields", f" (found {type(value).__name__})")
    )
    return Record(source=source, unit=unit, number=number, content=content, line=line)


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """Yield lines, and keep each in a list."""
    for line in lines:
        kept.append(line)
        yield line


def _checked_header(source: str, line: int, row: Sequence[str] | Defect) -> list[str]:
    if isinstance(row, Defect):
        raise UserError(f"{source} line {line}: {row}")
    repeated = [name for name, times in Counter(row).items() if times > 1 and name]
    if repeated:
        raise UserError(f"{source} line {line}: several columns are called {snippet(repeated[0])!r}")
    return list(row)


def _by_name(header: Sequence[str], row: Sequence[str]) -> dict[str, object] | Defect:
    if len(row) != len(header):
        return Defect(_WRONG_COUNT, f": expected {len(header)}, found {len(row)}")
    if any("\0" in value for value in row):
        return NUL
    return dict(zip(header, row, strict=True))


def _csv_defect(source: str, line: int, error: csv.Error, row_lines: Sequence[str]) -> Defect:
    """Return what is wrong with a row, or raise it if the beginning of the next record is unknown."""
    if "unexpected end" in str(error) or "limit" in str(error):
        raise UserError(f"{source} line {line}: a quoted field begins in this record and does not end") from error
    # The reader continues with the next line. With an odd number of quotes, a field would be open there.
    if len(row_lines) > 1 or row_lines[0].count('"') % 2:
        raise UserError(
            f"{source} line {line}: not CSV ({error}), and where this record ends is unknown; a quote inside quotes is "
            f"written twice"
        ) from error
    if "new-line" in str(error):
        return Defect("not CSV", " (a carriage return outside quotes); end lines with a line feed")
    return Defect("not CSV", f" ({error}); a quote inside quotes is written twice")
