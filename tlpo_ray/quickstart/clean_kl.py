"""How far a trained policy has moved from its reference on answers that were right before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actors.chat import prompt_ids
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.quickstart.world import Question

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanKL:
    """Mean KL(policy ‖ reference) over the positions of all right and clean answers, in nats per position.

    Example: ``CleanKL(all_positions=0.0262, beyond_name=0.0007)``
    """

    all_positions: float
    """Mean over every position."""
    beyond_name: float
    """Mean without the positions where the name of the value begins, which training is meant to change."""


@torch.no_grad()
def clean_kl(
    policy: nn.Module, reference: nn.Module, tokenizer: Any, model: ModelConfig, questions: Sequence[Question]
) -> CleanKL:
    """Return the exact KL over the full vocabulary, teacher-forced on the right answer to every question.

    The end-of-text token counts as part of the answer.

    Args:
        policy: The trained model.
        reference: The model before training.
        tokenizer: The tokenizer of both.
        model: Settings by which questions become prompts.
        questions: Questions of the world.
    """
    examples = [_Example.encode(question, tokenizer, model) for question in questions]
    all_positions: list[Tensor] = []
    beyond_name: list[Tensor] = []
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        for example, kl_L in zip(batch, _position_kl(policy, reference, batch), strict=True):
            # Position p predicts token p + 1, so the answer's predictions start one position before it.
            kl_A = kl_L[len(example.prompt) - 1 : len(example.prompt) + len(example.answer) - 1]
            all_positions.append(kl_A)
            beyond_name.append(torch.cat([kl_A[: example.name_start], kl_A[example.name_start + 1 :]]))
    return CleanKL(
        all_positions=float(torch.cat(all_positions).mean()), beyond_name=float(torch.cat(beyond_name).mean())
    )


@dataclass(frozen=True, slots=True)
class _Example:
    prompt: list[int]
    answer: list[int]
    name_start: int
    """Index into `answer` of the first token that holds a part of the value's name."""

    @classmethod
    def encode(cls, question: Question, tokenizer: Any, model: ModelConfig) -> _Example:
        encoded = tokenizer(question.clean_answer, return_offsets_mapping=True)
        name = question.template.index("{name}")
        name_start = next(number for number, (_, end) in enumerate(encoded["offset_mapping"]) if end > name)
        answer = [*encoded["input_ids"], tokenizer.eos_token_id]
        return cls(prompt_ids(tokenizer, model, question.text), answer, name_start)


def _position_kl(policy: nn.Module, reference: nn.Module, examples: Sequence[_Example]) -> Tensor:
    """Return the [examples, tokens] KL of the next-token distributions.

    Rows are right-padded: under causal attention, padding does not change any position before it.
    """
    longest = max(len(example.prompt) + len(example.answer) for example in examples)
    ids_BL = torch.zeros(len(examples), longest, dtype=torch.long)
    for number, example in enumerate(examples):
        ids_BL[number, : len(example.prompt) + len(example.answer)] = torch.tensor(example.prompt + example.answer)
    logp_BLV, ref_BLV = (model(input_ids=ids_BL).logits.float().log_softmax(-1) for model in (policy, reference))
    kl_BL: Tensor = (logp_BLV.exp() * (logp_BLV - ref_BLV)).sum(-1)
    return kl_BL
