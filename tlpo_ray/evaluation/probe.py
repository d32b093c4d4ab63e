"""Next-token probabilities of a policy at confusion points, i.e. after the contexts of candidate groups.

Shape suffixes: B contexts, V vocabulary, N candidates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from learner.packing import pack_attention
from learner.policy import collate_fn, load_model, next_token_logp
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.files import atomic_write
from tlpo_ray.flow.records import CandidateGroup, read_experiences

NEW_LOGP = "new_logp.json"
PROBED = 400
"""Largest number of a run's groups that are probed: more than a report shows."""
_BATCH_SIZE = 32


@torch.no_grad()
def next_logp(model: ModelConfig, contexts: Sequence[Sequence[int]]) -> Tensor:
    """Return [B, V] float32 natural-log probabilities of every next token after each context.

    Args:
        model: The policy; computed in float32 whatever its own number format.
        contexts: Token ids of each context.

    Raises:
        ModelError: The model cannot be loaded.
    """
    policy = load_model(model, torch.float32, trainable=False)
    pack_attention(policy)
    collate = collate_fn(policy)
    batches = [contexts[start : start + _BATCH_SIZE] for start in range(0, len(contexts), _BATCH_SIZE)]
    return torch.cat([next_token_logp(policy, collate(batch)) for batch in batches])


def probe_groups(model: ModelConfig, groups: Sequence[CandidateGroup]) -> list[list[float]]:
    """Return natural-log probabilities of a policy at each group's candidates, one row of [N] per group."""
    if not groups:
        return []
    logp_BV = next_logp(model, [group.context_ids.tolist() for group in groups])
    return [
        row[torch.as_tensor(group.candidate_ids, dtype=torch.long)].tolist()
        for row, group in zip(logp_BV, groups, strict=True)
    ]


def write_probe(folder: Path, model: ModelConfig) -> None:
    """Write `new_logp.json` of a run: probabilities of the trained policy at the candidates of its experiences.

    At most `PROBED` groups, evenly spaced over the run, are probed; the file maps a group's number to its row.

    Args:
        folder: Folder of the run, with its experiences and its trained model.
        model: The run's model configuration; the trained weights are taken from the folder.
    """
    groups = read_experiences(folder / "experiences")
    chosen = range(0, len(groups), max(1, -(-len(groups) // PROBED)))
    trained = model.model_copy(update={"path": str(folder / "model"), "revision": None})
    rows = probe_groups(trained, [groups[number] for number in chosen])
    with atomic_write(folder / NEW_LOGP) as partial:
        partial.write_text(json.dumps(dict(zip(chosen, rows, strict=True))), encoding="utf-8")
