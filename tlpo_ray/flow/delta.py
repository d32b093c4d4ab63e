"""Weight deltas: only what has changed bit by bit since the policy version before.

At TLPO's learning rates an update is smaller than half a bfloat16 step for nearly every weight, so nearly every weight
rounds to the value it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.weights import Bucket, WeightDelta, WireTensor

POSITION_BYTES = 4
"""Size of a position in a patch (uint32)."""
_MAX_POSITIONS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Changed weights of one tensor.

    Example: 2 of 16 bfloat16 weights changed: 2 bytes of bitmap and 2 values of 2 bytes each instead of 32 bytes.
    """

    where: npt.NDArray[Any]
    """Positions in the flat tensor (uint32), or a bitmap with one bit per weight (uint8), whichever is smaller."""
    values: WireTensor
    """[changed] new weights at these positions."""
    checksum: int
    """Checksum of the resulting tensor: it only matches if the patch was applied to the right one."""

    @property
    def nbytes(self) -> int:
        """Size on the wire in bytes."""
        return int(self.where.nbytes + self.values.nbytes)


def make_patch(old: WireTensor, new: WireTensor) -> Patch | WireTensor:
    """Return a patch that turns `old` into `new`, or `new` itself where a patch would not be smaller."""
    changed = _bits(old) != _bits(new)
    count, size = int(np.count_nonzero(changed)), new.itemsize
    as_positions = count * (POSITION_BYTES + size) if new.size <= _MAX_POSITIONS else new.nbytes
    as_bitmap = -(-new.size // 8) + count * size
    if min(as_positions, as_bitmap) >= new.nbytes:
        return new
    where = np.flatnonzero(changed).astype(np.uint32) if as_positions <= as_bitmap else np.packbits(changed)
    return Patch(where=where, values=new.reshape(-1)[changed], checksum=checksum(new))


def checksum(array: WireTensor) -> int:
    """Return the sum of the tensor's bytes read as 64-bit words, modulo 2^64."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    aligned = data.size - data.size % 8
    tail = int.from_bytes(data[aligned:].tobytes(), "little")
    return (int(data[:aligned].view(np.uint64).sum()) + tail) % 2**64


class WeightMirror:
    """A receiver's own copy of the weights, to which patches are applied. Holds one model in the host's memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, WireTensor] = {}

    def apply(self, deltas: Iterable[WeightDelta]) -> None:
        """Apply deltas in the order of their versions.

        Raises:
            WeightSyncError: A patch does not fit the weights of this mirror.
        """
        for delta in deltas:
            for bucket in delta.buckets:
                for name, tensor in bucket:
                    if isinstance(tensor, Patch):
                        self._apply_patch(name, tensor, delta.version)
                    else:
                        # Copied: arrays from the object store are read-only, and later patches are applied in place.
                        self._arrays[name] = np.array(tensor)

    def bucket(self) -> Bucket:
        """Return all weights, in the order of the model's parameters."""
        return list(self._arrays.items())

    def _apply_patch(self, name: str, patch: Patch, version: int) -> None:
        array = self._arrays.get(name)
        if array is not None:
            flat = array.reshape(-1)
            if patch.where.dtype == np.uint8:
                flat[np.unpackbits(patch.where, count=flat.size).view(bool)] = patch.values
            else:
                flat[patch.where] = patch.values
        # A patch that is applied to other weights than the learner's yields a plausible tensor: only the checksum of
        # the complete result shows the difference.
        if array is None or checksum(array) != patch.checksum:
            raise WeightSyncError(
                f"weight {name} of policy version {version} has a wrong checksum: its delta was applied to other "
                f"weights than the learner's"
            )


def _bits(array: WireTensor) -> npt.NDArray[np.unsignedinteger]:
    # Compare bits, not values: NaN differs from itself as a number, and -0.0 equals 0.0.
    return array.reshape(-1).view(np.dtype(f"u{array.itemsize}"))


class DeltaEncoder:
    """Encodes each policy version as its difference to the one sent before, of which it keeps a copy.

    Args:
        full_sync_interval: Number of delta versions between two that are sent in full.
    """

    def __init__(self, full_sync_interval: int) -> None:
        self._full_sync_interval = full_sync_interval
        self._last: dict[str, WireTensor] = {}
        self._since_full = 0

    @property
    def next_is_full(self) -> bool:
        """Whether the next version is sent in full."""
        return not self._last or self._since_full >= self._full_sync_interval

    def encode(self, tensors: Iterable[tuple[str, WireTensor]]) -> Iterator[tuple[str, Patch | WireTensor]]:
        """Yield the tensors of the next version, as patches unless it is sent in full.

        Must be iterated to the end: the copy of the version sent last is updated tensor by tensor.
        """
        is_full = self.next_is_full
        self._since_full = 0 if is_full else self._since_full + 1
        for name, array in tensors:
            encoded = array if is_full else make_patch(self._last[name], array)
            self._last[name] = np.array(array)
            yield name, encoded
