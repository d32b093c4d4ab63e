"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_lines(file: Path, rows: Iterable[object]) -> None:
    """Write JSON lines, own scripts kept, whole or not at all."""
    with replacing(file) as partial, partial.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(file: Path, value: object) -> None:
    """Write JSON for people (indented, own scripts kept), whole or not at all."""
    with replacing(file) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `file` when the block ends well."""
    partial = file.with_suffix(".tmp")
    yield partial
    os.replace(partial, file)
