"""Records of Parquet and Arrow files, a batch at a time whatever their size."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.data.tables import Defect, Record
from tlpo_ray.errors import UserError, first_line

TABLES = (".parquet", ".arrow")
"""Ends of the names of these files."""
_ROWS = 1024
"""Number of rows that become Python objects at a time."""
_ARROW_FILE, _ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"


def column_records(source: str, file: io.BufferedReader) -> Iterator[Record]:
    """Yield one record per row of a Parquet file, or of an Arrow file or stream.

    Args:
        source: the file, as error messages name it.
        file: the file, in which the reader can move about.

    Raises:
        UserError: Two columns have the same name, or the file is damaged in a way that Arrow does not notice.
        pyarrow.ArrowException: The file is damaged. See `read_errors`.
        OSError: The file cannot be read. See `read_errors`.
    """
    number = 0
    try:
        for batch in _batches(file):
            repeated = [name for name, times in Counter(batch.schema.names).items() if times > 1]
            if repeated:
                raise UserError(f"{source}: several columns are called {repeated[0]!r}")
            for start in range(0, batch.num_rows, _ROWS):
                for content in _rows(batch.slice(start, _ROWS)):
                    number += 1
                    yield Record(source=source, unit="row", number=number, content=content)
    except (MemoryError, UnicodeDecodeError) as error:  # a length or a column's name that makes no sense
        raise UserError(f"{source}: damaged Parquet or Arrow file ({first_line(error)})") from error


def _batches(file: io.BufferedReader) -> Iterator[pa.RecordBatch]:
    head = file.peek(len(_ARROW_FILE))
    if head.startswith(_ARROW_FILE):
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    elif head.startswith(_ARROW_STREAM):
        batches = iter(pa.ipc.open_stream(file))
    else:
        yield from pq.ParquetFile(file).iter_batches()
        return
    for batch in batches:
        batch.validate(full=True)  # Arrow trusts the offsets in a file: damaged ones would crash this process
        yield batch


def _rows(batch: pa.RecordBatch) -> Sequence[dict[str, object] | Defect]:
    try:
        rows: list[dict[str, object]] = batch.to_pylist()
    except (ValueError, ArithmeticError, KeyError):  # a text that is not UTF-8, a time that Python does not have
        return [_row(batch, index) for index in range(batch.num_rows)]
    return rows


def _row(batch: pa.RecordBatch, index: int) -> dict[str, object] | Defect:
    row: dict[str, object] = {}
    for name in batch.schema.names:
        try:
            row[name] = batch.column(name)[index].as_py()
        except UnicodeDecodeError:
            return Defect("a text is not UTF-8")
        except (ValueError, ArithmeticError, KeyError) as error:
            return Defect("a value that Python does not have", f" (field {name!r}: {first_line(error)})")
    return row
