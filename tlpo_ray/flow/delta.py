"""Weights as differences: only what has changed bit by bit since the version before.

At TLPO's learning rates an update is smaller than half a bfloat16 step for nearly every weight, so nearly every weight
rounds to what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.weights import Bucket, WeightStep, WireTensor

POSITION_BYTES = 4
_MOST_POSITIONS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What has changed in one tensor.

    Example: of 16 bfloat16 weights two changed: 2 bytes of bitmap and 2 values of 2 bytes instead of 32 bytes.
    """

    where: npt.NDArray[Any]
    """Positions in the flat tensor (uint32), or a bitmap of one bit a weight (uint8), whichever is smaller."""
    values: WireTensor
    """[changed] the new weights."""
    checksum: int
    """Of the new tensor: it can only come out right if the patch was laid over the right one."""

    @property
    def nbytes(self) -> int:
        """Size on the wire, bytes."""
        return int(self.where.nbytes + self.values.nbytes)


def patch(old: WireTensor, new: WireTensor) -> Patch | WireTensor:
    """What turns `old` into `new`, or `new` itself where that is no larger."""
    changed = _bits(old) != _bits(new)
    count, size = int(np.count_nonzero(changed)), new.itemsize
    as_positions = count * (POSITION_BYTES + size) if new.size <= _MOST_POSITIONS else new.nbytes
    as_bitmap = -(-new.size // 8) + count * size
    if min(as_positions, as_bitmap) >= new.nbytes:
        return new
    where = np.flatnonzero(changed).astype(np.uint32) if as_positions <= as_bitmap else np.packbits(changed)
    return Patch(where=where, values=new.reshape(-1)[changed], checksum=checksum(new))


def checksum(array: WireTensor) -> int:
    """Sum of the tensor's bytes as 64-bit words, modulo 2^64."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size - data.size % 8
    tail = int.from_bytes(data[whole:].tobytes(), "little")
    return (int(data[:whole].view(np.uint64).sum()) + tail) % 2**64


class Shadow:
    """A receiver's own copy of the weights, which patches are laid over. Holds one model in the host's memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, WireTensor] = {}

    def follow(self, steps: Iterable[WeightStep]) -> None:
        """Go through versions in their order.

        Raises:
            WeightSyncError: a patch does not fit the weights that are there.
        """
        for step in steps:
            for bucket in step.buckets:
                for name, found in bucket:
                    if isinstance(found, Patch):
                        self._lay(name, found, step.version)
                    else:
                        self._arrays[name] = np.array(found)  # what comes from the object store is read-only

    def bucket(self) -> Bucket:
        """All weights, in the order of the model's parameters."""
        return list(self._arrays.items())

    def _lay(self, name: str, over: Patch, version: int) -> None:
        array = self._arrays.get(name)
        if array is not None:
            flat = array.reshape(-1)
            if over.where.dtype == np.uint8:
                flat[np.unpackbits(over.where, count=flat.size).view(bool)] = over.values
            else:
                flat[over.where] = over.values
        if array is None or checksum(array) != over.checksum:
            raise WeightSyncError(
                f"weight {name} of policy version {version} does not come out right: the difference was laid over "
                f"other weights than the learner's"
            )


def _bits(array: WireTensor) -> npt.NDArray[np.unsignedinteger]:
    # NaN differs from itself, -0.0 equals 0.0: bits do not.
    return array.reshape(-1).view(np.dtype(f"u{array.itemsize}"))


class Differ:
    """The sender's side: remembers what it sent last.

    Args:
        refresh: versions after which everything is sent again.
    """

    def __init__(self, refresh: int) -> None:
        self._refresh = refresh
        self._last: dict[str, WireTensor] = {}
        self._since = 0

    def next(self, tensors: Iterable[tuple[str, WireTensor]]) -> Iterator[tuple[str, Patch | WireTensor]]:
        """The next version's tensors, as patches unless it is time to send everything."""
        everything = self.full
        self._since = 0 if everything else self._since + 1
        for name, array in tensors:
            found = array if everything else patch(self._last[name], array)
            self._last[name] = np.array(array)
            yield name, found

    @property
    def full(self) -> bool:
        """Whether the next version is sent whole."""
        return not self._last or self._since >= self._refresh
