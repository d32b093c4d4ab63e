"""Candidate groups as tensors.

Shape suffixes: B groups, T tokens of all contexts, L tokens of the longest context, K candidates per group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tlpo_ray.flow.records import CandidateGroup

PAD_ID = 0
"""Token id of padding. Any id will do: the attention mask hides it."""

TokenIds = Sequence[int] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Contexts for one forward pass, in the form that a causal language model takes."""

    inputs: Mapping[str, Any]
    """Arguments of the model. It returns logits of one position per context, the last."""

    def to(self, device: torch.device) -> Self:
        """Return the same contexts on another device."""
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        return type(self)(inputs=moved)


Collate = Callable[[Sequence[TokenIds]], Contexts]
"""Puts contexts of different lengths into one forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBatch:
    """Groups for one forward pass."""

    contexts: Contexts
    candidate_ids_BK: Tensor
    old_logp_BK: Tensor
    """Natural logarithm of π_old at the candidates, float32."""
    rewards_BK: Tensor
    weight_B: Tensor
    """Weight of each group in the update's mean: 1 / groups, or 0 for a copy that only fills up a shard."""

    def to(self, device: torch.device) -> Self:
        """Return the same batch on another device."""
        return type(self)(
            contexts=self.contexts.to(device),
            candidate_ids_BK=self.candidate_ids_BK.to(device),
            old_logp_BK=self.old_logp_BK.to(device),
            rewards_BK=self.rewards_BK.to(device),
            weight_B=self.weight_B.to(device),
        )


def pack_contexts(contexts: Sequence[TokenIds]) -> Contexts:
    """Put contexts one after another into a single row [1, T], without padding.

    Only for models that `packing.pack_attention` has changed: any other would attend across contexts.
    """
    lengths = tuple(map(len, contexts))
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return Contexts(
        inputs={
            "input_ids": torch.from_numpy(np.concatenate([np.asarray(ids, np.int64) for ids in contexts]))[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "segment_lengths": lengths,
            "segment_bounds": bounds,
            "logits_to_keep": bounds[1:].long() - 1,
        }
    )


def pad_contexts(contexts: Sequence[TokenIds]) -> Contexts:
    """Put each context into a row of its own [B, L], padded on the left so that every one ends in the last column."""
    longest = max(map(len, contexts))
    input_ids = np.full((len(contexts), longest), PAD_ID, np.int64)
    mask = np.zeros((len(contexts), longest), np.int64)
    for row, context in enumerate(contexts):
        input_ids[row, longest - len(context) :] = context
        mask[row, longest - len(context) :] = 1
    return Contexts(
        inputs={
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "position_ids": torch.from_numpy((mask.cumsum(axis=1) - 1).clip(min=0)),
            "logits_to_keep": 1,
        }
    )


def make_batch(groups: Sequence[CandidateGroup], weights: Sequence[float], collate: Collate) -> GroupBatch:
    """Stack groups, which must have the same number of candidates, into tensors.

    Args:
        groups: At least one.
        weights: Weight of each group in the update's mean.
        collate: How the policy takes contexts (`policy.collate_fn`).
    """
    return GroupBatch(
        contexts=collate([group.context_ids for group in groups]),
        candidate_ids_BK=torch.from_numpy(np.stack([group.candidate_ids for group in groups]).astype(np.int64)),
        old_logp_BK=torch.from_numpy(np.stack([group.old_logp for group in groups])),
        rewards_BK=torch.from_numpy(np.stack([group.rewards for group in groups])),
        weight_B=torch.tensor(weights, dtype=torch.float32),
    )


def micro_batches(
    groups: Sequence[CandidateGroup], *, rank: int, num_ranks: int, size: int, collate: Collate
) -> list[GroupBatch]:
    """Return a learner rank's shard of an update, in batches of at most `size` groups.

    Every rank gets the same number of batches of the same sizes: each batch is a round of collectives, and a rank with
    fewer would leave the others waiting. Copies of the shortest group with weight 0 fill the gaps. Over all ranks the
    weights sum to 1. Ranks get about the same number of tokens, so that none waits for another's long contexts; within
    a rank, contexts of similar length share a batch.

    Args:
        groups: All groups of the update.
        rank: This rank.
        num_ranks: Ranks in the learner group.
        size: `learner.micro_batch_size`.
        collate: How the policy takes contexts.
    """
    per_rank = -(-len(groups) // num_ranks)
    ordered = sorted(groups, key=lambda group: len(group.context_ids))
    # The shortest group makes the cheapest filler; with weight 0 it contributes nothing to loss and gradient.
    fillers = [(group, 0.0) for group in ordered[:1]] * (per_rank * num_ranks - len(groups))
    shard = _balanced([*fillers, *((group, 1 / len(groups)) for group in ordered)], num_ranks)[rank]
    chunks = (shard[start : start + size] for start in range(0, per_rank, size))
    return [make_batch([group for group, _ in chunk], [weight for _, weight in chunk], collate) for chunk in chunks]


def _balanced(
    ordered: Sequence[tuple[CandidateGroup, float]], num_ranks: int
) -> list[list[tuple[CandidateGroup, float]]]:
    """Divide weighted groups, shortest first, into one shard per rank with the same number of groups each.

    Greedy: the longest group that is left goes to the rank with the fewest tokens among those that have room.
    """
    shards: list[list[tuple[CandidateGroup, float]]] = [[] for _ in range(num_ranks)]
    tokens = [0] * num_ranks
    for group, weight in reversed(ordered):
        with_room = [rank for rank in range(num_ranks) if len(shards[rank]) * num_ranks < len(ordered)]
        rank = min(with_room, key=lambda rank: tokens[rank])
        shards[rank].insert(0, (group, weight))
        tokens[rank] += len(group.context_ids)
    return shards
