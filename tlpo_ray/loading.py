"""Importing large libraries in a new process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import large libraries inside the block without Python's cyclic garbage collector.

    vLLM and transformers create a million objects when they are imported, and none of them is garbage. The collector
    looks at them again and again, which is a third of the time of the imports. After the block it works as before, and
    never looks at what exists now (`gc.freeze`): modules live as long as the process, and walking over them would slow
    every later full collection.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
