"""Differences of weights: they come out bit for bit, are never larger than the weights, and refuse another base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from learner.publish import Publisher
from learner.worker import build_learner
from tests.tiny import random_groups
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.delta import Differ, Patch, Shadow, checksum, patch
from tlpo_ray.flow.weights import Bucket, WeightStep, WeightUpdate, WireTensor

DTYPES = st.sampled_from([np.dtype("float32"), np.dtype("uint16")])


def step(version: int, bucket: Sequence[tuple[str, object]], *, whole: bool = False) -> WeightStep:
    return WeightStep(version=version, whole=whole, buckets=[bucket], nbytes=0)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[WireTensor, WireTensor]:
    """A tensor, and the same with some bits changed: signs of zero and NaN among them."""
    dtype = draw(DTYPES)
    shape = draw(hnp.array_shapes(max_dims=3, max_side=9))
    old: WireTensor = draw(hnp.arrays(dtype, shape))
    new = old.copy().reshape(-1)
    for at in draw(st.lists(st.integers(0, new.size - 1), max_size=6)):
        new[at] = draw(hnp.from_dtype(dtype))
    return old, new.reshape(shape)


@given(pairs())
def test_a_patch_makes_the_new_tensor_bit_for_bit_and_is_never_larger(pair: tuple[WireTensor, WireTensor]) -> None:
    old, new = pair
    found = patch(old, new)
    assert found.nbytes <= new.nbytes
    shadow = Shadow()
    shadow.follow([step(0, [("w", old)], whole=True), step(1, [("w", found)])])
    ((_, after),) = shadow.bucket()
    assert after.tobytes() == new.tobytes() and after.shape == new.shape and after.dtype == new.dtype


def test_few_changes_travel_as_positions_and_more_as_a_bitmap() -> None:
    old = np.zeros((100, 100), np.uint16)
    for count, kind, nbytes in ((3, np.uint32, 18), (2_000, np.uint8, 1_250 + 4_000)):
        new = old.copy()
        new.reshape(-1)[:count] = 7
        found = patch(old, new)
        assert isinstance(found, Patch) and found.where.dtype == kind and found.nbytes == nbytes
    assert patch(old, old + 1) is not old and not isinstance(patch(old, old + 1), Patch)


@given(hnp.arrays(np.uint16, st.integers(1, 40)), st.data())
def test_the_checksum_tells_tensors_apart_that_differ_in_one_weight(array: WireTensor, data: st.DataObject) -> None:
    other = array.copy()
    other[data.draw(st.integers(0, array.size - 1))] ^= data.draw(st.integers(1, 2**16 - 1))
    assert checksum(array) != checksum(other)


def test_a_patch_over_other_weights_is_refused() -> None:
    old, new = np.arange(100, dtype=np.float32), np.arange(100, dtype=np.float32)
    new[3] = 0.5
    found = patch(old, new)
    for base in ([("w", old + 1)], []):
        shadow = Shadow()
        with pytest.raises(WeightSyncError, match="weight w of policy version 1 does not come out right"):
            shadow.follow([step(0, base, whole=True), step(1, [("w", found)])])


def test_everything_is_sent_again_after_so_many_versions() -> None:
    differ, array = Differ(refresh=2), np.zeros(64, np.float32)
    kinds = []
    for version in range(7):
        array = array.copy()
        array[version] = 1
        ((_, found),) = differ.next([("w", array)])
        kinds.append(isinstance(found, Patch))
    assert kinds == [False, True, True, False, True, True, False]


def test_who_comes_late_or_misses_versions_ends_with_the_learner_s_weights(tiny_model: Path) -> None:
    """A learner in bfloat16 at a small learning rate, and three receivers that load when they like."""
    config = LearnerConfig(engine="torch", lr=1e-6, warmup=0.0, beta=0.0)
    worker = build_learner(ModelConfig(path=str(tiny_model), dtype="bfloat16"), config, seed=0)
    publisher, always, now_and_then = Publisher(50_000, refresh=3), Shadow(), Shadow()
    at: dict[Shadow, int | None] = {always: None, now_and_then: None}
    whole_bytes = 0
    for version in range(6):
        if version:
            worker.update(random_groups(tiny_model, 8, seed=version), 0.0)
        update = worker.publish(publisher, ())
        assert update is not None and update.version == version
        assert [one.whole for one in update.steps] == [True, *[False] * (len(update.steps) - 1)]
        late = Shadow()
        late.follow(update.steps)
        for shadow in (always, *([now_and_then] if version in (0, 2, 5) else [])):
            shadow.follow(update.since(at[shadow]))
            at[shadow] = version
        wanted = {name: array.tobytes() for name, array in weights(worker)}
        assert {name: array.tobytes() for name, array in late.bucket()} == wanted
        assert {name: array.tobytes() for name, array in always.bucket()} == wanted
        sent = update.steps[-1]
        whole_bytes = sent.nbytes if sent.whole else whole_bytes
        assert sent.whole or 0 < sent.nbytes < whole_bytes / 4, "an update this small changes few bits"
    assert {name: array.tobytes() for name, array in now_and_then.bucket()} == wanted


def weights(worker: object) -> Bucket:
    from learner.worker import LearnerWorker

    assert isinstance(worker, LearnerWorker)
    update = worker.publish(Publisher(1 << 30), ())
    assert update is not None
    (bucket,) = update.steps[0].buckets
    return list(bucket)


def test_an_update_knows_what_is_left_for_whom() -> None:
    steps = (step(3, [], whole=True), step(4, []), step(5, []))
    update = WeightUpdate(version=5, steps=steps, canary=None)
    assert [one.version for one in update.since(4)] == [5]
    assert update.since(5) == ()
    assert update.since(None) == update.since(2) == steps
