"""Prompts on disk, read where they lie: a run of a million of them holds none in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from tlpo_ray.errors import ResourceError, first_line
from tlpo_ray.flow.records import Prompt

SCHEMA = pa.schema([("id", pa.string()), ("language", pa.string()), ("text", pa.string())])
ROWS = 1024
"""Prompts in a batch of the file; the last one may have fewer."""


class PromptFile(Sequence[Prompt]):
    """Prompts of an Arrow file, memory-mapped; a prompt's index is its place in the file.

    Crosses to another process of the same machine as its path. The file may be deleted once it is open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = self._file.num_record_batches
        self._length = 0 if not batches else (batches - 1) * ROWS + self._file.get_batch(batches - 1).num_rows
        self._number = -1
        self._batch: Any = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prompt, ...]: ...
    def __getitem__(self, index: int | slice) -> Prompt | tuple[Prompt, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(self._length)))
        if not 0 <= index < self._length:
            raise IndexError(index)
        number, row = divmod(index, ROWS)
        if number != self._number:
            self._number, self._batch = number, self._file.get_batch(number)
        values = {name: self._batch[name][row].as_py() for name in SCHEMA.names}
        return Prompt(index=index, **values)

    def __reduce__(self) -> tuple[type[PromptFile], tuple[Path]]:
        return PromptFile, (self._path,)


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> PromptFile:
    """Write prompts as they come and open the file.

    Raises:
        ResourceError: the file cannot be written.
    """
    remaining = iter(prompts)
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for batch in _batches(remaining):
                writer.write_batch(batch)
    except OSError as error:
        raise ResourceError(f"cannot write the prompts to {path}: {first_line(error)}") from error
    return PromptFile(path)


def _batches(prompts: Iterator[Prompt]) -> Iterator[pa.RecordBatch]:
    while rows := list(islice(prompts, ROWS)):
        yield pa.record_batch(
            [pa.array([getattr(row, name) for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names],
            schema=SCHEMA,
        )
