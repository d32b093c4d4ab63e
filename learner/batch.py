"""Candidate groups as padded tensors. Axis letters: B groups, L context tokens, K candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tlpo_ray.flow.records import CandidateGroup

PAD_ID = 0
"""Any token will do: the attention mask hides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Token ids for one forward pass, left-padded: every context ends at the last column."""

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    position_ids_BL: Tensor

    def to(self, device: torch.device) -> Self:
        """The same contexts on another device."""
        return type(self)(
            input_ids_BL=self.input_ids_BL.to(device),
            attention_mask_BL=self.attention_mask_BL.to(device),
            position_ids_BL=self.position_ids_BL.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBatch:
    """Groups for one forward pass."""

    contexts: Contexts
    candidate_ids_BK: Tensor
    old_logp_BK: Tensor
    rewards_BK: Tensor
    weight_B: Tensor
    """Share of each group in the update's mean: 1 / groups, or 0 for a copy that only fills a shard."""

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(
            contexts=self.contexts.to(device),
            candidate_ids_BK=self.candidate_ids_BK.to(device),
            old_logp_BK=self.old_logp_BK.to(device),
            rewards_BK=self.rewards_BK.to(device),
            weight_B=self.weight_B.to(device),
        )


def pad_contexts(contexts: Sequence[Sequence[int] | npt.NDArray[np.int32]]) -> Contexts:
    """Stack contexts of different lengths."""
    longest = max(map(len, contexts))
    input_ids = np.full((len(contexts), longest), PAD_ID, np.int64)
    mask = np.zeros((len(contexts), longest), np.int64)
    for row, context in enumerate(contexts):
        input_ids[row, longest - len(context) :] = context
        mask[row, longest - len(context) :] = 1
    return Contexts(
        input_ids_BL=torch.from_numpy(input_ids),
        attention_mask_BL=torch.from_numpy(mask),
        position_ids_BL=torch.from_numpy((mask.cumsum(axis=1) - 1).clip(min=0)),
    )


def make_batch(groups: Sequence[CandidateGroup], weights: Sequence[float]) -> GroupBatch:
    """Stack groups, which must have equally many candidates."""
    return GroupBatch(
        contexts=pad_contexts([group.context_ids for group in groups]),
        candidate_ids_BK=torch.from_numpy(np.stack([group.candidate_ids for group in groups]).astype(np.int64)),
        old_logp_BK=torch.from_numpy(np.stack([group.old_logp for group in groups])),
        rewards_BK=torch.from_numpy(np.stack([group.rewards for group in groups])),
        weight_B=torch.tensor(weights, dtype=torch.float32),
    )


def micro_batches(groups: Sequence[CandidateGroup], *, rank: int, ranks: int, size: int) -> list[GroupBatch]:
    """A learner rank's share of an update, in batches of at most `size` groups.

    Every rank gets equally many, because ranks meet in collectives: where groups are missing, copies of one with
    weight 0 stand in. Over all ranks the weights sum to 1. Contexts of like length go together.
    """
    per_rank = -(-len(groups) // ranks)
    fillers = per_rank * ranks - len(groups)
    ordered = sorted(groups, key=lambda group: len(group.context_ids))
    weights = [0.0] * fillers + [1 / len(groups)] * len(groups)
    # Neighbours in length go to different ranks, so no rank waits for another's long contexts.
    mine = (ordered[:1] * fillers + ordered)[rank::ranks]
    mine_weights = weights[rank::ranks]
    return [
        make_batch(mine[start : start + size], mine_weights[start : start + size]) for start in range(0, per_rank, size)
    ]
