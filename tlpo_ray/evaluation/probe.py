"""What a policy says at confusion points: probabilities of next tokens after contexts of candidate groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from learner.packing import pack_attention
from learner.policy import load_model, next_token_logp, stack_of
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.files import replacing
from tlpo_ray.flow.records import CandidateGroup, read_experiences

NEW_LOGP = "new_logp.json"
PROBED = 400
"""Most groups of a run that are probed: more than a report shows."""
_BATCH = 32


@torch.no_grad()
def next_logp(model: ModelConfig, contexts: Sequence[Sequence[int]]) -> Tensor:
    """[contexts, vocabulary] float32 natural-log probabilities of every next token.

    Raises:
        ModelError: the model cannot be loaded.
    """
    policy = load_model(model, torch.float32, trainable=False)
    pack_attention(policy)
    stack = stack_of(policy)
    lots = [contexts[start : start + _BATCH] for start in range(0, len(contexts), _BATCH)]
    return torch.cat([next_token_logp(policy, stack(lot)) for lot in lots])


def probe_groups(model: ModelConfig, groups: Sequence[CandidateGroup]) -> list[list[float]]:
    """[groups, N] natural-log probabilities of a policy at each group's candidates; one confusion point, one row."""
    if not groups:
        return []
    logp_BV = next_logp(model, [group.context_ids.tolist() for group in groups])
    return [
        row[torch.as_tensor(group.candidate_ids, dtype=torch.long)].tolist()
        for row, group in zip(logp_BV, groups, strict=True)
    ]


def write_probe(folder: Path, model: ModelConfig) -> None:
    """`new_logp.json` of a run's folder: the trained policy at the candidates of its experiences.

    At most `PROBED` groups, evenly chosen.

    Args:
        model: the run's; the trained weights are taken from the folder.
    """
    groups = read_experiences(folder / "experiences")
    chosen = range(0, len(groups), max(1, -(-len(groups) // PROBED)))
    trained = model.model_copy(update={"path": str(folder / "model"), "revision": None})
    rows = probe_groups(trained, [groups[number] for number in chosen])
    with replacing(folder / NEW_LOGP) as partial:
        partial.write_text(json.dumps(dict(zip(chosen, rows, strict=True))), encoding="utf-8")
