"""Sources of records: files, folders and hub datasets. What a field means is decided in `prompts.py`."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.data.tables import (
    Defect,
    Record,
    csv_records,
    is_json_list,
    json_line_records,
    json_list_records,
    read_errors,
)
from tlpo_ray.errors import PromptFileError, UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*|\w[\w-]*")


def read_records(source: str, subset: str | None, split: str) -> Iterator[Record]:
    """Yield every record of a file, of all files in a folder (sorted by name), or of a hub dataset; skip blank lines.

    Args:
        source: a path, or a hub dataset if nothing exists at that path.
        subset: configuration of a hub dataset.
        split: split of a hub dataset.

    Raises:
        PromptFileError: The source does not exist, or is damaged beyond single records.
    """
    if not source:
        raise PromptFileError("data.prompts is empty: give a file, a folder or a hub dataset")
    path = Path(source)
    if path.is_dir():
        yield from _read_folder(path)
    elif path.exists():
        yield from _read_file(path)
    elif is_hub_name(source):
        yield from _read_hub(source, subset, split)
    else:
        raise PromptFileError(f"{source}: no such file or folder")


def is_hub_name(source: str) -> bool:
    """Return whether a source that does not exist as a path may be the name of a hub dataset."""
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
    with _open(path) as file:
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path, file)
        elif ".csv" in path.suffixes:
            yield from csv_records(str(path), file)
        elif ".jsonl" in path.name or not is_json_list(file):
            yield from json_line_records(str(path), file)
        else:
            yield from json_list_records(str(path), file)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked if its name ends in .gz; errors while it is read become a `PromptFileError`."""
    try:
        with read_errors(str(path)), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile reads like an IO[bytes]
    except pa.ArrowException as error:
        raise PromptFileError(f"{path}: damaged Parquet file ({first_line(error)})") from error
    except UserError as error:
        raise PromptFileError(str(error)) from error


def _read_parquet(path: Path, file: IO[bytes]) -> Iterator[Record]:
    number = 0
    for batch in pq.ParquetFile(file).iter_batches():
        for index in range(batch.num_rows):
            number += 1
            yield Record(source=str(path), unit="row", number=number, content=_row(batch, index))


def _row(batch: pa.RecordBatch, index: int) -> dict[str, object] | Defect:
    try:
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return Defect("a text is not UTF-8")


def _read_hub(name: str, subset: str | None, split: str) -> Iterator[Record]:
    import datasets

    try:
        rows: Dataset = datasets.load_dataset(name, subset, split=split)
    except RuntimeError:
        # A dataset that is still distributed as a script, e.g. Bactrian-X: the hub keeps a Parquet copy of it.
        rows = _load_hub_parquet(name, subset, split)
    except Exception as error:  # the library raises errors of many other libraries
        raise _hub_error(name, subset, split, error) from error
    for number, row in enumerate(rows, start=1):
        yield Record(source=name, unit="row", number=number, content=row)


def _load_hub_parquet(name: str, subset: str | None, split: str) -> Dataset:
    import datasets

    files = f"hf://datasets/{name}@refs/convert/parquet/{subset or 'default'}/{split}/*.parquet"
    try:
        return datasets.load_dataset("parquet", data_files=files, split="train")
    except Exception as error:
        raise _hub_error(name, subset, split, error) from error


def _hub_error(name: str, subset: str | None, split: str, error: Exception) -> PromptFileError:
    requested = f"{name} (data.subset={subset}, data.split={split})"
    return PromptFileError(
        f"{requested}: no such file here, and the hub dataset cannot be loaded: {first_line(error)}; "
        f"without a network give a file or folder as data.prompts"
    )
