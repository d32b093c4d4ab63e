"""Padding, and the shards of an update."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.batch import make_batch, micro_batches, pad_contexts
from tlpo_ray.flow.records import CandidateGroup


def make_group(index: int, length: int) -> CandidateGroup:
    """A group that can be told apart by its candidates."""
    return CandidateGroup(
        prompt_index=index,
        prompt_id=f"p{index}",
        language="ko",
        context_ids=np.arange(1, length + 1, dtype=np.int32),
        prompt_length=1,
        candidate_ids=np.array([index, 900], np.int32),
        old_logp=np.log(np.array([0.75, 0.25], np.float32)),
        rewards=np.array([1, -1], np.float32),
        sampling_version=0,
        probing_version=0,
        detector_version="1",
        response="",
        span_start=0,
        span_end=0,
        span_script="Thai",
        lookaheads=("", ""),
    )


def test_contexts_end_at_the_last_column() -> None:
    padded = pad_contexts([[7, 8, 9], [5]])
    assert padded.input_ids_BL.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert padded.attention_mask_BL.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert padded.position_ids_BL.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_a_batch_keeps_each_groups_numbers_in_its_row() -> None:
    batch = make_batch([make_group(3, 2), make_group(4, 5)], [0.5, 0.25])
    assert batch.candidate_ids_BK.tolist() == [[3, 900], [4, 900]]
    assert batch.candidate_ids_BK.dtype == batch.contexts.input_ids_BL.dtype == torch.int64
    torch.testing.assert_close(batch.old_logp_BK.exp(), torch.tensor([[0.75, 0.25]] * 2))
    assert batch.rewards_BK.tolist() == [[1, -1]] * 2
    assert batch.weight_B.tolist() == [0.5, 0.25]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=24), st.integers(1, 5), st.integers(1, 6))
def test_every_group_is_learned_once_and_the_ranks_stay_in_step(lengths: list[int], ranks: int, size: int) -> None:
    groups = [make_group(index, length) for index, length in enumerate(lengths)]
    shards = [micro_batches(groups, rank=rank, ranks=ranks, size=size) for rank in range(ranks)]
    weight: Counter[int] = Counter()
    for batch in (batch for shard in shards for batch in shard):
        for candidates, share in zip(batch.candidate_ids_BK.tolist(), batch.weight_B.tolist(), strict=True):
            weight[candidates[0]] += share > 0
            assert share == 0 or share == np.float32(1 / len(groups))
    assert weight == Counter({index: 1 for index in range(len(groups))})
    total = sum(float(batch.weight_B.double().sum()) for shard in shards for batch in shard)
    assert abs(total - 1) < 1e-6
    sizes = {tuple(len(batch.weight_B) for batch in shard) for shard in shards}
    assert len(sizes) == 1, "ranks differ in number or size of their micro-batches"
    assert max(max(sizes)) <= size
    rows = ranks * sum(sizes.pop())
    assert rows - len(groups) < ranks, "more fillers than needed"


def test_neighbours_in_length_go_to_different_ranks() -> None:
    groups = [make_group(index, length) for index, length in enumerate([30, 1, 29, 2])]
    lengths = [
        micro_batches(groups, rank=rank, ranks=2, size=2)[0].contexts.attention_mask_BL.sum(dim=1).tolist()
        for rank in range(2)
    ]
    assert lengths == [[1, 29], [2, 30]]
