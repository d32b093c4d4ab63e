"""Prompts in a memory-mapped file: a run of a million prompts keeps none of them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from tlpo_ray.files import disk_errors
from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.records import Prompt

SCHEMA = pa.schema(
    [("id", pa.string()), ("language", pa.string()), ("text", pa.string()), ("conversation", pa.string())]
)
"""Columns of the file; a conversation is JSON, and null for a prompt that is a single text."""
ROWS = 1024
"""Prompts per record batch of the file; the last batch may have fewer."""


class PromptFile(Sequence[Prompt]):
    """Sequence of the prompts in a memory-mapped Arrow file; a prompt's index is its position in the file.

    Pickled, it is only the path, so another process on the same machine maps the same file. The file may be deleted
    once it is open.

    Args:
        path: a file that `write_prompts` wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = self._file.num_record_batches
        self._length = 0 if not batches else (batches - 1) * ROWS + self._file.get_batch(batches - 1).num_rows
        # Prompts are mostly read in order: keeping the batch that was read last avoids most of the decoding.
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
        dumped = values.pop("conversation")
        return Prompt(index=index, conversation=None if dumped is None else Conversation.loads(dumped), **values)

    def __reduce__(self) -> tuple[type[PromptFile], tuple[Path]]:
        return PromptFile, (self._path,)


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> PromptFile:
    """Write prompts one batch at a time, and open the file.

    Raises:
        ResourceError: The file cannot be written.
    """
    remaining = iter(prompts)
    with (
        disk_errors(f"the prompts to {path}"),
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for batch in _batches(remaining):
            writer.write_batch(batch)
    return PromptFile(path)


def _batches(prompts: Iterator[Prompt]) -> Iterator[pa.RecordBatch]:
    while rows := list(islice(prompts, ROWS)):
        columns = zip(*map(_row, rows), strict=True)
        yield pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def _row(prompt: Prompt) -> tuple[str | None, ...]:
    dumped = None if prompt.conversation is None else prompt.conversation.dumps()
    return prompt.id, prompt.language, prompt.text, dumped
