"""How far a trained policy has moved from its reference on answers that were right already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actors.chat import prompt_ids
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.quickstart.world import Question

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanKL:
    """Mean KL(policy ‖ reference) over the positions of all right and clean answers, in nats a position."""

    everywhere: float
    elsewhere: float
    """Without the position where the name of the value begins: the one that training is meant to change."""


@torch.no_grad()
def clean_kl(
    policy: nn.Module, reference: nn.Module, tokenizer: Any, model: ModelConfig, questions: Sequence[Question]
) -> CleanKL:
    """Exact KL over the whole vocabulary, teacher-forced on every question's right answer and its end-of-text token."""
    rows = [_Row.of(question, tokenizer, model) for question in questions]
    everywhere: list[Tensor] = []
    elsewhere: list[Tensor] = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        for row, kl_L in zip(batch, _position_kl(policy, reference, batch), strict=True):
            kl_A = kl_L[len(row.prompt) - 1 : len(row.prompt) + len(row.answer) - 1]
            everywhere.append(kl_A)
            elsewhere.append(torch.cat([kl_A[: row.name_start], kl_A[row.name_start + 1 :]]))
    return CleanKL(everywhere=float(torch.cat(everywhere).mean()), elsewhere=float(torch.cat(elsewhere).mean()))


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: list[int]
    answer: list[int]
    name_start: int
    """Index into `answer` of the first token with a part of the value's name."""

    @classmethod
    def of(cls, question: Question, tokenizer: Any, model: ModelConfig) -> _Row:
        encoded = tokenizer(question.clean_answer, return_offsets_mapping=True)
        name = question.template.index("{name}")
        name_start = next(number for number, (_, end) in enumerate(encoded["offset_mapping"]) if end > name)
        answer = [*encoded["input_ids"], tokenizer.eos_token_id]
        return cls(prompt_ids(tokenizer, model, question.text), answer, name_start)


def _position_kl(policy: nn.Module, reference: nn.Module, rows: Sequence[_Row]) -> Tensor:
    """[rows, tokens] KL of the next-token distributions; right-padded, so padding changes nothing before it."""
    longest = max(len(row.prompt) + len(row.answer) for row in rows)
    ids_BL = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids_BL[number, : len(row.prompt) + len(row.answer)] = torch.tensor(row.prompt + row.answer)
    logp_BLV, ref_BLV = (model(input_ids=ids_BL).logits.float().log_softmax(-1) for model in (policy, reference))
    kl_BL: Tensor = (logp_BLV.exp() * (logp_BLV - ref_BLV)).sum(-1)
    return kl_BL
