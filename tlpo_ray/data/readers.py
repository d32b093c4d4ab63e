"""From files and hub datasets to records; what a field means is for `prompts.py` to say."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.errors import PromptFileError, first_line

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*|\w[\w-]*")
SNIPPET = 40
"""Characters of a broken line that its error shows."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of JSONL, item of a JSON list, or row of a table.

    Example: ``Record(source="ko.jsonl", unit="line", number=3, fields={"prompt": "안녕?"})``
    """

    source: str
    unit: Literal["line", "item", "row"]
    number: int
    """From 1."""
    fields: Mapping[str, object] | None = None
    """None: it is broken, and `problem` says how."""
    problem: str = ""

    @property
    def place(self) -> str:
        """For errors: file and line."""
        return f"{self.source} {self.unit} {self.number}"

    @property
    def name(self) -> str:
        """For prompts that have no id of their own."""
        return f"{Path(self.source).name}:{self.number}"


def read_records(source: str, subset: str | None, split: str) -> Iterator[Record]:
    """Every record of a file, of the files in a folder (by name), or of a hub dataset. Blank lines are none.

    Args:
        source: a path, or a hub dataset when there is nothing at that path.
        subset: configuration of a hub dataset.
        split: split of a hub dataset.

    Raises:
        PromptFileError: the source is not there, or damaged as a whole.
    """
    if not source:
        raise PromptFileError("data.prompts is empty: give a file, a folder or a hub dataset")
    path = Path(source)
    if path.is_dir():
        yield from _read_folder(path)
    elif path.exists():
        yield from _read_file(path)
    elif of_hub(source):
        yield from _read_hub(source, subset, split)
    else:
        raise PromptFileError(f"{source}: no such file or folder")


def of_hub(source: str) -> bool:
    """Whether a name at which nothing lies can be a hub dataset's."""
    return not source.endswith(SUFFIXES) and HUB_NAME.fullmatch(source) is not None


def _read_folder(folder: Path) -> Iterator[Record]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    if not files:
        raise PromptFileError(f"{folder}: no prompt file in this folder; expected {', '.join(SUFFIXES)}")
    for file in files:
        yield from _read_file(file)


def _read_file(path: Path) -> Iterator[Record]:
    if not path.name.endswith(SUFFIXES):
        raise PromptFileError(f"{path}: not a prompt file; expected {', '.join(SUFFIXES)}")
    with _opened(path) as file:
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path, file)
        elif ".csv" in path.suffixes:
            yield from _read_csv(path, file)
        elif ".jsonl" in path.name or not _is_list(file):
            yield from _read_lines(path, file)
        else:
            yield from _read_list(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's (unpacked) bytes; what goes wrong while they are read becomes one line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile reads like an IO[bytes]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PromptFileError(f"{path}: damaged gzip file ({error})") from error
    except pa.ArrowException as error:
        raise PromptFileError(f"{path}: damaged Parquet file ({first_line(error)})") from error
    except OSError as error:
        raise PromptFileError(f"{path}: {error.strerror or first_line(error)}") from error


def _is_list(file: IO[bytes]) -> bool:
    """Whether a `.json` file holds one list (as Bactrian-X's do) rather than a record a line."""
    first = file.read(len(BYTE_ORDER_MARK) + 1).removeprefix(BYTE_ORDER_MARK)
    while first and not first.strip():
        first = file.read(1)
    file.seek(0)
    return first.lstrip().startswith(b"[")


def _read_lines(path: Path, file: IO[bytes]) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        text = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip()
        if text:
            yield _record(str(path), "line", number, _parsed(text))


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _Broken(f"not UTF-8 text (byte {error.start + 1} is 0x{line[error.start]:02x})")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return _Broken(f"not JSON ({error.msg} at {where}): {_snippet(line)}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        return _Broken(f"not JSON ({error}): {_snippet(line)}")


def _snippet(line: bytes) -> str:
    """The beginning of a broken line, harmless to a terminal."""
    text = "".join(char if char.isprintable() else "�" for char in line.decode("utf-8")[: SNIPPET + 1])
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET]}…"


@dataclass(frozen=True, slots=True)
class _Broken:
    problem: str


def _record(source: str, unit: Literal["line", "item", "row"], number: int, value: object) -> Record:
    match value:
        case dict():
            return Record(source=source, unit=unit, number=number, fields=value)
        case _Broken(problem):
            return Record(source=source, unit=unit, number=number, problem=problem)
        case _:
            problem = f"expected an object with fields, found {type(value).__name__}"
            return Record(source=source, unit=unit, number=number, problem=problem)


def _read_list(path: Path, file: IO[bytes]) -> Iterator[Record]:
    values = _parsed(file.read().removeprefix(BYTE_ORDER_MARK))
    if isinstance(values, _Broken):
        raise PromptFileError(f"{path}: {values.problem}")
    assert isinstance(values, list)
    for number, value in enumerate(values, start=1):
        yield _record(str(path), "item", number, value)


def _read_csv(path: Path, file: IO[bytes]) -> Iterator[Record]:
    try:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline="")), start=1):
            yield _record(str(path), "row", number, row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PromptFileError(f"{path}: not a CSV file in UTF-8 ({first_line(error)})") from error


def _read_parquet(path: Path, file: IO[bytes]) -> Iterator[Record]:
    number = 0
    for batch in pq.ParquetFile(file).iter_batches():
        for index in range(batch.num_rows):
            number += 1
            yield _record(str(path), "row", number, _row(batch, index))


def _row(batch: pa.RecordBatch, index: int) -> object:
    try:
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return _Broken("a text is not UTF-8")


def _read_hub(name: str, subset: str | None, split: str) -> Iterator[Record]:
    import datasets

    try:
        rows: Any = datasets.load_dataset(name, subset, split=split)
    except RuntimeError:
        # A dataset that still comes as a script, as Bactrian-X does: the hub keeps a Parquet copy of it.
        rows = _hub_parquet(name, subset, split)
    except Exception as error:  # the library raises errors of many libraries
        raise _hub_error(name, subset, split, error) from error
    for number, row in enumerate(rows, start=1):
        yield _record(name, "row", number, row)


def _hub_parquet(name: str, subset: str | None, split: str) -> Any:
    import datasets

    files = f"hf://datasets/{name}@refs/convert/parquet/{subset or 'default'}/{split}/*.parquet"
    try:
        return datasets.load_dataset("parquet", data_files=files, split="train")
    except Exception as error:
        raise _hub_error(name, subset, split, error) from error


def _hub_error(name: str, subset: str | None, split: str, error: Exception) -> PromptFileError:
    asked = f"{name} (data.subset={subset}, data.split={split})"
    return PromptFileError(
        f"{asked}: no such file here, and the hub dataset cannot be loaded: {first_line(error)}; "
        f"without a network give a file or folder as data.prompts"
    )
