"""Weights on the wire."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.weights import Canary, check_canary, from_wire, in_buckets, to_wire


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wire_form_keeps_every_bit(dtype: torch.dtype) -> None:
    tensor = torch.randn(7, 5).to(dtype)
    received = from_wire(to_wire(tensor))
    assert received.dtype == dtype
    assert torch.equal(received, tensor)


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(4, 100))
def test_buckets_hold_every_tensor_once_in_order_and_are_bounded(sizes: list[int], max_bytes: int) -> None:
    tensors = [(f"t{i}", np.zeros(size, np.float32)) for i, size in enumerate(sizes)]
    buckets = list(in_buckets(tensors, max_bytes))
    assert [name for bucket in buckets for name, _ in bucket] == [name for name, _ in tensors]
    for bucket in buckets:
        assert len(bucket) == 1 or sum(array.nbytes for _, array in bucket) <= max_bytes


def test_the_canary_measures_the_largest_difference_and_rejects_more_than_the_tolerance() -> None:
    canary = Canary(context_ids=(1, 2), token_ids=(5, 6), logp=(-0.5, -1.0))
    assert check_canary(canary, [6, 5, 9], [-1.01, -0.5, -4.0], 0.02) == pytest.approx(0.01)
    with pytest.raises(WeightSyncError, match=r"differ .* 0.01 nats"):
        check_canary(canary, [6, 5], [-1.01, -0.5], 0.001)
    with pytest.raises(WeightSyncError):
        check_canary(canary, [6, 7], [-1.0, -0.5], 10.0)  # one of the learner's tokens is not among the receiver's
    with pytest.raises(WeightSyncError):
        check_canary(canary, [5, 6], [-0.5, float("nan")], 10.0)
