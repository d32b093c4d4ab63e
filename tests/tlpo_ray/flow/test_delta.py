"""Weight deltas: applied bit for bit, never larger than the weights, and rejected on another base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from learner.weight_export import WeightExporter
from learner.worker import LearnerWorker, build_learner
from tests.tiny import random_groups
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.delta import DeltaEncoder, Patch, WeightMirror, checksum, make_patch
from tlpo_ray.flow.weights import Bucket, WeightDelta, WeightUpdate, WireTensor

DTYPES = st.sampled_from([np.dtype("float32"), np.dtype("uint16")])


def make_delta(version: int, bucket: Sequence[tuple[str, object]], *, is_full: bool = False) -> WeightDelta:
    return WeightDelta(version=version, is_full=is_full, buckets=[bucket], nbytes=0)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[WireTensor, WireTensor]:
    """A tensor, and the same with some bits changed: signs of zero and NaN among them."""
    dtype = draw(DTYPES)
    shape = draw(hnp.array_shapes(max_dims=3, max_side=9))
    old: WireTensor = draw(hnp.arrays(dtype, shape))
    new = old.copy().reshape(-1)
    for position in draw(st.lists(st.integers(0, new.size - 1), max_size=6)):
        new[position] = draw(hnp.from_dtype(dtype))
    return old, new.reshape(shape)


@given(pairs())
def test_a_patch_makes_the_new_tensor_bit_for_bit_and_is_never_larger(pair: tuple[WireTensor, WireTensor]) -> None:
    old, new = pair
    patch = make_patch(old, new)
    assert patch.nbytes <= new.nbytes
    mirror = WeightMirror()
    mirror.apply([make_delta(0, [("w", old)], is_full=True), make_delta(1, [("w", patch)])])
    ((_, after),) = mirror.bucket()
    assert after.tobytes() == new.tobytes() and after.shape == new.shape and after.dtype == new.dtype


def test_few_changes_travel_as_positions_and_more_as_a_bitmap() -> None:
    old = np.zeros((100, 100), np.uint16)
    for count, dtype, nbytes in ((3, np.uint32, 18), (2_000, np.uint8, 1_250 + 4_000)):
        new = old.copy()
        new.reshape(-1)[:count] = 7
        patch = make_patch(old, new)
        assert isinstance(patch, Patch) and patch.where.dtype == dtype and patch.nbytes == nbytes
    assert make_patch(old, old + 1) is not old and not isinstance(make_patch(old, old + 1), Patch)


@given(hnp.arrays(np.uint16, st.integers(1, 40)), st.data())
def test_tensors_that_differ_in_one_weight_have_different_checksums(array: WireTensor, data: st.DataObject) -> None:
    other = array.copy()
    other[data.draw(st.integers(0, array.size - 1))] ^= data.draw(st.integers(1, 2**16 - 1))
    assert checksum(array) != checksum(other)


def test_a_patch_on_other_weights_is_rejected() -> None:
    old, new = np.arange(100, dtype=np.float32), np.arange(100, dtype=np.float32)
    new[3] = 0.5
    patch = make_patch(old, new)
    for base in ([("w", old + 1)], []):
        mirror = WeightMirror()
        with pytest.raises(WeightSyncError, match="weight w of policy version 1 has a wrong checksum"):
            mirror.apply([make_delta(0, base, is_full=True), make_delta(1, [("w", patch)])])


def test_all_weights_are_sent_again_at_an_interval() -> None:
    encoder, array = DeltaEncoder(full_sync_interval=2), np.zeros(64, np.float32)
    is_patch, is_full = [], []
    for version in range(7):
        array = array.copy()
        array[version] = 1
        is_full.append(encoder.next_is_full)
        ((_, encoded),) = encoder.encode([("w", array)])
        is_patch.append(isinstance(encoded, Patch))
    assert is_patch == [False, True, True, False, True, True, False]
    assert is_full == [not patched for patched in is_patch]


def test_a_receiver_that_is_late_or_misses_versions_ends_with_the_learner_s_weights(tiny_model: Path) -> None:
    """A learner in bfloat16 at a small learning rate, and three receivers that load at different times."""
    config = LearnerConfig(engine="torch", lr=1e-6, warmup=0.0, beta=0.0)
    worker = build_learner(ModelConfig(path=str(tiny_model), dtype="bfloat16"), config, seed=0)
    exporter, always, sometimes = WeightExporter(50_000, full_sync_interval=3), WeightMirror(), WeightMirror()
    versions: dict[WeightMirror, int | None] = {always: None, sometimes: None}
    full_bytes = 0
    for version in range(6):
        if version:
            worker.update(random_groups(tiny_model, 8, seed=version), 0.0)
        update = worker.export_weights(exporter, ())
        assert update is not None and update.version == version
        assert [delta.is_full for delta in update.deltas] == [True, *[False] * (len(update.deltas) - 1)]
        late = WeightMirror()
        late.apply(update.deltas)
        for mirror in (always, *([sometimes] if version in (0, 2, 5) else [])):
            mirror.apply(update.since(versions[mirror]))
            versions[mirror] = version
        expected = in_bytes(all_weights(worker))
        assert in_bytes(late.bucket()) == expected
        assert in_bytes(always.bucket()) == expected
        latest = update.deltas[-1]
        full_bytes = latest.nbytes if latest.is_full else full_bytes
        assert latest.is_full or 0 < latest.nbytes < full_bytes / 4, "an update this small changes few bits"
    assert in_bytes(sometimes.bucket()) == expected


def in_bytes(bucket: Bucket) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in bucket}


def all_weights(worker: LearnerWorker) -> Bucket:
    update = worker.export_weights(WeightExporter(1 << 30), ())
    assert update is not None
    (bucket,) = update.deltas[0].buckets
    return list(bucket)


def test_an_update_knows_what_a_receiver_still_has_to_apply() -> None:
    deltas = (make_delta(3, [], is_full=True), make_delta(4, []), make_delta(5, []))
    update = WeightUpdate(version=5, deltas=deltas, canary=None)
    assert [delta.version for delta in update.since(4)] == [5]
    assert update.since(5) == ()
    assert update.since(None) == update.since(2) == deltas
