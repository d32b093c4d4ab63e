"""Sources of records: files, folders and hub datasets. What a field means is decided in `prompts.py`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tlpo_ray.data.columns import TABLES, column_records
from tlpo_ray.data.folders import DEFAULT_SPLIT, TEXTS, check_file, data_format, folder_files
from tlpo_ray.data.tables import (
    Record,
    TextLines,
    csv_records,
    is_json_list,
    json_line_records,
    json_list_records,
)
from tlpo_ray.data.unpack import PACKED, has_table, read_errors, unpack
from tlpo_ray.errors import PromptFileError, UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (*(text + packed for text in TEXTS for packed in ("", *PACKED)), *TABLES)
"""Ends of the names of prompt files."""
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*|\w[\w-]*")


def read_records(source: str, subset: str | None, split: str) -> Iterator[Record]:
    """Yield every record of a file, of all files of a split in a folder, or of a hub dataset; skip blank lines.

    Args:
        source: a path, or a hub dataset if nothing exists at that path.
        subset: configuration of a hub dataset, or of a folder whose README.md lists some.
        split: split of a hub dataset or folder. A folder whose files name no split, and a file, are `train`.

    Raises:
        PromptFileError: The source, its subset or its split does not exist, or is damaged beyond single records.
    """
    files = source_files(source, subset, split)
    if files is None:
        yield from _read_hub(source, subset, split)
        return
    for file in files:
        yield from _read_file(file)


def source_files(source: str, subset: str | None, split: str) -> list[Path] | None:
    """Return the files that a run reads its prompts from, in this order; None for a hub dataset.

    Raises:
        PromptFileError: The source, its subset or its split does not exist, or a file of it cannot be read.
    """
    if not source:
        raise PromptFileError("data.prompts is empty: give a file, a folder or a hub dataset")
    path = Path(source)
    try:
        if path.is_dir():
            return folder_files(path, subset, split)
        if not path.exists() and not path.is_symlink():
            if is_hub_name(source):
                return None
            raise PromptFileError(f"{source}: no such file or folder")
        check_file(path)
    except UserError as error:
        raise PromptFileError(str(error)) from error
    if data_format(path) is None:
        raise PromptFileError(f"{path}: not a prompt file; expected {_expected()}")
    if split != DEFAULT_SPLIT:
        raise PromptFileError(f"{path}: a file has no split {split!r}; leave the split out, or give the folder")
    return [path]


def is_hub_name(source: str) -> bool:
    """Return whether a source that does not exist as a path may be the name of a hub dataset."""
    return data_format(Path(source)) is None and HUB_NAME.fullmatch(source) is not None


def _expected() -> str:
    return f"{', '.join((*TEXTS, *TABLES))}, the former also with {', '.join(PACKED)}"


def _read_file(path: Path) -> Iterator[Record]:
    try:
        with read_errors(str(path)), path.open("rb") as file:
            yield from _records(path, file)
    except UserError as error:
        raise PromptFileError(str(error)) from error


def _records(path: Path, file: io.BufferedReader) -> Iterator[Record]:
    """Yield the records of a file: tables and compressed text are known by their content, text by the file's name."""
    name, form = str(path), data_format(path)
    if form in TABLES or has_table(file):
        yield from column_records(name, file)
        return
    text = unpack(name, file)
    if form in (".csv", ".tsv"):
        lines = TextLines(name, text)
        yield from csv_records(lines, delimiter="\t" if form == ".tsv" else None, utf8_only=True)
    elif form == ".json" and is_json_list(text):
        yield from json_list_records(name, text)
    else:
        yield from json_line_records(name, text)


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
