"""How far a trained policy has moved from its reference on answers that were right, or clean, before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actors.chat import prompt_ids
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.conversation import Conversation

_MAX_ROWS = 64
_MAX_LOGITS = 1 << 26
"""Most answers, and most logits of one model, that are computed at once: 256 MB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanAnswer:
    """An answer without confusion.

    Example: ``CleanAnswer(prompt="일본의 통화는 무엇입니까?", text="일본의 통화는 일본 엔화입니다.", name_at=8)``
    """

    prompt: str | Conversation
    text: str
    ends: bool = True
    """Whether the end-of-text token belongs to it."""
    name_at: int | None = None
    """Index in code points of a name that training is meant to change; None if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanKL:
    """Mean KL(policy ‖ reference) over the positions of clean answers, in nats per position.

    Example: ``CleanKL(all_positions=0.0262, beyond_name=0.0007, perplexity=1.04)``
    """

    all_positions: float
    """Mean over every position."""
    beyond_name: float
    """Mean without the positions where a name begins that training is meant to change."""
    perplexity: float
    """The policy's perplexity on the answers, per token."""


@torch.no_grad()
def clean_kl(
    policy: nn.Module, reference: nn.Module, tokenizer: Any, model: ModelConfig, answers: Sequence[CleanAnswer]
) -> CleanKL:
    """Return the exact KL over the full vocabulary, teacher-forced on at least one answer.

    Args:
        policy: The trained model.
        reference: The model before training.
        tokenizer: The tokenizer of both.
        model: Settings by which questions become prompts.
        answers: Answers of the reference, or right ones.
    """
    examples = [_Example.encode(answer, tokenizer, model) for answer in answers]
    all_positions: list[Tensor] = []
    beyond_name: list[Tensor] = []
    nats: list[Tensor] = []
    for batch in _batches(examples, len(tokenizer)):
        for example, kl_L, nats_L in zip(batch, *_by_position(policy, reference, batch), strict=True):
            # Position p predicts token p + 1, so the answer's predictions start one position before it.
            answer = slice(len(example.prompt) - 1, len(example.prompt) + len(example.answer) - 1)
            kl_A = kl_L[answer]
            all_positions.append(kl_A)
            nats.append(nats_L[answer])
            if example.name_start is not None:
                kl_A = torch.cat([kl_A[: example.name_start], kl_A[example.name_start + 1 :]])
            beyond_name.append(kl_A)
    return CleanKL(
        all_positions=float(torch.cat(all_positions).mean()),
        beyond_name=float(torch.cat(beyond_name).mean()),
        perplexity=float(torch.cat(nats).mean().exp()),
    )


@dataclass(frozen=True, slots=True)
class _Example:
    prompt: list[int]
    answer: list[int]
    name_start: int | None
    """Index into `answer` of the first token that holds a part of the name."""

    @classmethod
    def encode(cls, answer: CleanAnswer, tokenizer: Any, model: ModelConfig) -> _Example:
        encoded = tokenizer(answer.text, add_special_tokens=False, return_offsets_mapping=True)
        name_start = None
        if (name := answer.name_at) is not None:
            name_start = next(number for number, (_, end) in enumerate(encoded["offset_mapping"]) if end > name)
        ids = [*encoded["input_ids"], *([tokenizer.eos_token_id] if answer.ends else [])]
        return cls(prompt_ids(tokenizer, model, answer.prompt), ids, name_start)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def _batches(examples: Sequence[_Example], vocabulary: int) -> Iterator[Sequence[_Example]]:
    """Yield the examples in batches whose logits fit into `_MAX_LOGITS`."""
    longest = max(map(len, examples))
    rows = min(_MAX_ROWS, max(1, _MAX_LOGITS // (longest * vocabulary)))
    for start in range(0, len(examples), rows):
        yield examples[start : start + rows]


def _by_position(policy: nn.Module, reference: nn.Module, examples: Sequence[_Example]) -> tuple[Tensor, Tensor]:
    """Return the KL of the next-token distributions, and the policy's nats of the next token, both [examples, tokens].

    Rows are right-padded: under causal attention, padding does not change any position before it.
    """
    longest = max(map(len, examples))
    ids_BL = torch.zeros(len(examples), longest, dtype=torch.long)
    for number, example in enumerate(examples):
        ids_BL[number, : len(example)] = torch.tensor(example.prompt + example.answer)
    logp_BLV, ref_BLV = (model(input_ids=ids_BL).logits.float().log_softmax(-1) for model in (policy, reference))
    kl_BL: Tensor = (logp_BLV.exp() * (logp_BLV - ref_BLV)).sum(-1)
    nats_BL = -logp_BLV.gather(-1, ids_BL.roll(-1, 1)[..., None])[..., 0]
    return kl_BL, nats_BL
