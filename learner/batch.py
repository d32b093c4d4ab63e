"""Candidate groups as tensors. Axis letters: B groups, T tokens of all contexts, L of the longest, K candidates."""

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
"""Any token will do: the attention mask hides it."""


Ids = Sequence[int] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Contexts for one forward pass, as a causal language model takes them."""

    inputs: Mapping[str, Any]
    """Arguments of the model; it answers with logits of one position a context, the last."""

    def to(self, device: torch.device) -> Self:
        """The same contexts on another device."""
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        return type(self)(inputs=moved)


Stack = Callable[[Sequence[Ids]], Contexts]
"""Makes one forward pass of contexts of different lengths."""


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


def pack_contexts(contexts: Sequence[Ids]) -> Contexts:
    """One after another in one row [1, T], without padding; for models with `packing.packed_attention`."""
    lengths = tuple(map(len, contexts))
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return Contexts(
        inputs={
            "input_ids": torch.from_numpy(np.concatenate([np.asarray(one, np.int64) for one in contexts]))[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "segment_lengths": lengths,
            "segment_bounds": bounds,
            "logits_to_keep": bounds[1:].long() - 1,
        }
    )


def pad_contexts(contexts: Sequence[Ids]) -> Contexts:
    """One a row [B, L], padded on the left: every context ends at the last column."""
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


def make_batch(groups: Sequence[CandidateGroup], weights: Sequence[float], stack: Stack) -> GroupBatch:
    """Stack groups, which must have equally many candidates."""
    return GroupBatch(
        contexts=stack([group.context_ids for group in groups]),
        candidate_ids_BK=torch.from_numpy(np.stack([group.candidate_ids for group in groups]).astype(np.int64)),
        old_logp_BK=torch.from_numpy(np.stack([group.old_logp for group in groups])),
        rewards_BK=torch.from_numpy(np.stack([group.rewards for group in groups])),
        weight_B=torch.tensor(weights, dtype=torch.float32),
    )


def micro_batches(
    groups: Sequence[CandidateGroup], *, rank: int, ranks: int, size: int, stack: Stack
) -> list[GroupBatch]:
    """A learner rank's share of an update, in batches of at most `size` groups.

    Every rank gets equally many, because ranks meet in collectives: where groups are missing, copies of the shortest
    with weight 0 stand in. Over all ranks the weights sum to 1. Ranks get about equally many tokens, so that none waits
    for another's long contexts; in a rank, contexts of like length go together.
    """
    per_rank = -(-len(groups) // ranks)
    ordered = sorted(groups, key=lambda group: len(group.context_ids))
    fillers = [(group, 0.0) for group in ordered[:1]] * (per_rank * ranks - len(groups))
    mine = _balanced([*fillers, *((group, 1 / len(groups)) for group in ordered)], ranks)[rank]
    return [
        make_batch([group for group, _ in lot], [weight for _, weight in lot], stack)
        for lot in (mine[start : start + size] for start in range(0, per_rank, size))
    ]


def _balanced(ordered: Sequence[tuple[CandidateGroup, float]], ranks: int) -> list[list[tuple[CandidateGroup, float]]]:
    """Equally many for each rank, shortest first; the longest that is left goes to the rank with the fewest tokens."""
    shares: list[list[tuple[CandidateGroup, float]]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for one in reversed(ordered):
        room = [rank for rank in range(ranks) if len(shares[rank]) * ranks < len(ordered)]
        rank = min(room, key=lambda rank: tokens[rank])
        shares[rank].insert(0, one)
        tokens[rank] += len(one[0].context_ids)
    return shares
