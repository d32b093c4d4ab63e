"""Packing, padding, and the shards of an update."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.batch import Collate, make_batch, micro_batches, pack_contexts, pad_contexts
from tlpo_ray.flow.records import CandidateGroup


def make_group(index: int, length: int) -> CandidateGroup:
    """Return a group that is identified by its first candidate."""
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
        detector_version="1",
        response="",
        span_start=0,
        span_end=0,
        span_kind="Thai",
        lookaheads=("", ""),
    )


def test_padded_contexts_end_in_the_last_column() -> None:
    padded = pad_contexts([[7, 8, 9], [5]]).inputs
    assert padded["input_ids"].tolist() == [[7, 8, 9], [0, 0, 5]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert padded["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert padded["logits_to_keep"] == 1


def test_packed_contexts_share_one_row_without_padding() -> None:
    packed = pack_contexts([[7, 8, 9], [5]]).inputs
    assert packed["input_ids"].tolist() == [[7, 8, 9, 5]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0]]
    assert packed["segment_lengths"] == (3, 1) and packed["segment_bounds"].tolist() == [0, 3, 4]
    assert packed["logits_to_keep"].tolist() == [2, 3]


@pytest.mark.parametrize("collate", [pack_contexts, pad_contexts])
def test_a_batch_keeps_each_groups_values_in_its_row(collate: Collate) -> None:
    batch = make_batch([make_group(3, 2), make_group(4, 5)], [0.5, 0.25], collate)
    assert batch.candidate_ids_BK.tolist() == [[3, 900], [4, 900]]
    assert batch.candidate_ids_BK.dtype == batch.contexts.inputs["input_ids"].dtype == torch.int64
    torch.testing.assert_close(batch.old_logp_BK.exp(), torch.tensor([[0.75, 0.25]] * 2))
    assert batch.rewards_BK.tolist() == [[1, -1]] * 2
    assert batch.weight_B.tolist() == [0.5, 0.25]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=24), st.integers(1, 5), st.integers(1, 6))
def test_every_group_is_learned_once_and_all_ranks_make_the_same_number_of_batches(
    lengths: list[int], num_ranks: int, size: int
) -> None:
    groups = [make_group(index, length) for index, length in enumerate(lengths)]
    shards = [
        micro_batches(groups, rank=rank, num_ranks=num_ranks, size=size, collate=pad_contexts)
        for rank in range(num_ranks)
    ]
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
    rows = num_ranks * sum(sizes.pop())
    assert rows - len(groups) < num_ranks, "more fillers than needed"


@given(st.lists(st.integers(1, 300), min_size=2, max_size=40), st.integers(2, 8))
def test_ranks_get_about_the_same_number_of_tokens(lengths: list[int], num_ranks: int) -> None:
    groups = [make_group(index, length) for index, length in enumerate(lengths)]
    tokens = []
    for rank in range(num_ranks):
        (batch,) = micro_batches(groups, rank=rank, num_ranks=num_ranks, size=len(groups), collate=pack_contexts)
        lengths_of_rank = batch.contexts.inputs["segment_lengths"]
        assert list(lengths_of_rank) == sorted(lengths_of_rank), "contexts of similar length must share a batch"
        tokens.append(sum(lengths_of_rank))
    # Every rank has the same number of contexts, so none can be ahead by more than one longest context.
    assert max(tokens) - min(tokens) <= max(lengths)
