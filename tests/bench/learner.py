"""The learner's forward and backward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from learner.batch import make_batch, pad_contexts
from learner.policy import candidate_logp, load_model
from tests.bench.compare import Row, compared
from tests.tiny import CANDIDATES, random_groups
from tlpo_ray.config.run import ModelConfig

GROUPS, CONTEXT = 8, 128


def update(model: Path) -> Row:
    """One forward a confusion point against one a candidate."""
    policy = load_model(ModelConfig(path=str(model), dtype="float32"), torch.float32, trainable=True)
    random = np.random.default_rng(0)
    groups = [
        replace(group, context_ids=random.integers(3, 400, CONTEXT).astype(np.int32))
        for group in random_groups(model, GROUPS)
    ]
    batch = make_batch(groups, [1 / GROUPS] * GROUPS, pad_contexts)
    rows = torch.tensor([[*group.context_ids, token] for group in groups for token in group.candidate_ids])

    def ours() -> None:
        policy.zero_grad()
        candidate_logp(policy, batch).sum().backward()

    def alternative() -> None:
        policy.zero_grad()
        logp = policy(input_ids=rows, use_cache=False).logits.log_softmax(-1)
        logp[:, -2].gather(1, rows[:, -1:]).sum().backward()

    return compared(
        f"gradient of {GROUPS} groups, context {CONTEXT}",
        ("one forward a confusion point, head on one position", ours),
        (f"{CANDIDATES} padded rows, full logits", alternative),
    )
