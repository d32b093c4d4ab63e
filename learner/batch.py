"""Candidate groups as padded tensors. Axis letters: B groups, L context tokens, K candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from tlpo_ray.flow.records import CandidateGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBatch:
    """Groups for one forward pass, left-padded: every context ends at the last column."""

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    position_ids_BL: Tensor
    candidate_ids_BK: Tensor
    old_logp_BK: Tensor
    rewards_BK: Tensor
    weight_B: Tensor
    """Share of each group in the update's mean: 1 / groups, or 0 for a copy that only fills a shard."""

    @property
    def size(self) -> int:
        """B."""
        return self.weight_B.shape[0]

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def make_batch(groups: Sequence[CandidateGroup], weights: Sequence[float], pad_id: int) -> GroupBatch:
    """Pad and stack groups, which must have equally many candidates."""
    assert len({len(group.candidate_ids) for group in groups}) == 1, (
        "groups of one batch need candidate sets of one size"
    )
    longest = max(len(group.context_ids) for group in groups)
    input_ids = np.full((len(groups), longest), pad_id, np.int64)
    mask = np.zeros((len(groups), longest), np.int64)
    for row, group in enumerate(groups):
        length = len(group.context_ids)
        input_ids[row, longest - length :] = group.context_ids
        mask[row, longest - length :] = 1
    return GroupBatch(
        input_ids_BL=torch.from_numpy(input_ids),
        attention_mask_BL=torch.from_numpy(mask),
        position_ids_BL=torch.from_numpy((mask.cumsum(axis=1) - 1).clip(min=0)),
        candidate_ids_BK=torch.from_numpy(np.stack([group.candidate_ids for group in groups]).astype(np.int64)),
        old_logp_BK=torch.from_numpy(np.stack([group.old_logp for group in groups])),
        rewards_BK=torch.from_numpy(np.stack([group.rewards for group in groups])),
        weight_B=torch.tensor(weights, dtype=torch.float32),
    )


def micro_batches(
    groups: Sequence[CandidateGroup], *, rank: int, ranks: int, size: int, pad_id: int
) -> list[GroupBatch]:
    """A learner rank's share of an update, in batches of `size` groups.

    Every rank gets equally many batches of equal size, because ranks meet in collectives: copies of a group with
    weight 0 fill the gaps. Over all ranks the weights sum to 1. Contexts of like length go together.
    """
    per_rank = -(-len(groups) // (ranks * size)) * size
    ordered = sorted(groups, key=lambda group: len(group.context_ids))
    weights = [1 / len(groups)] * len(groups) + [0.0] * (per_rank * ranks - len(groups))
    ordered += [ordered[-1]] * (len(weights) - len(ordered))
    # Neighbours in length go to different ranks, so no rank waits for another's long contexts.
    mine, mine_weights = ordered[rank::ranks], weights[rank::ranks]
    return [
        make_batch(mine[start : start + size], mine_weights[start : start + size], pad_id)
        for start in range(0, per_rank, size)
    ]
