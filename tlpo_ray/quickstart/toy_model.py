"""A small causal language model that knows the toy world and mixes its languages.

It is trained from scratch, because a machine without a network cannot download weights. It learns the chat format, the
answer to every question, and to name some of the answers to confusable questions in a wrong language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from actors.chat import prompt_ids
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.quickstart.world import WRONG_LANGUAGES, Question, World

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_PAD, _END = "<|pad|>", "<|end|>"
_SPECIAL = [_PAD, _END, "<|system|>", "<|user|>", "<|assistant|>"]
_IGNORED = -100
_BETAS = (0.9, 0.98)
_MAX_GRAD_NORM = 1.0
_THREADS = 1
"""Number of torch threads. A second one gains nothing on matrices this small, is slow on a busy machine, and would
change the weights."""

OnProgress = Callable[[float, float], None]
"""Called with (share of the training that is done, loss in nats per token)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyRecipe:
    """Size and training of the toy model."""

    vocab_size: int = 1024
    """Largest number of tokens. It is small so that tokens are shorter than words: then a name in the question can be
    copied, and names share their first tokens with names of their own script."""
    num_layers: int = 2
    hidden_size: int = 128
    num_heads: int = 4
    intermediate_size: int = 512
    confused_share: float = 0.4
    """Share of the training answers to confusable questions that have the name in a wrong language."""
    epochs: int = 40
    """How often each question is asked in training."""
    batch_size: int = 16
    """Questions per optimizer step."""
    lr: float = 3e-3
    """Peak learning rate: linear warm-up over the first tenth of the steps, then a cosine to 0."""
    weight_decay: float = 0.1


def build_tokenizer(world: World, recipe: ToyRecipe) -> Any:
    """Return a byte-level BPE tokenizer with a chat template, trained on the sentences of a world.

    Spaces are separate tokens, so that a wrong name differs from the right one from its first letter on, which is the
    confusion point. If spaces were merged into words as usual, many wrong names would begin with a lone space where the
    right name does not. That space would decide the language, but the confusion point comes after it, where no
    candidate leads to the right name any more: TLPO would then make the name of some other currency probable.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}\p{M}]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_corpus(world), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        additional_special_tokens=_SPECIAL[2:],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _tokenizer_corpus(world: World) -> Iterator[str]:
    for question in world.questions:
        yield question.text
        yield from (question.answer(language) for language in answer_languages(question))


def answer_languages(question: Question) -> tuple[str, ...]:
    """Return the languages in which the toy model may name the answer, the right one first."""
    right = question.name_language or question.language
    return (right, *WRONG_LANGUAGES) if question.confusable else (right,)


def build_model(tokenizer: Any, recipe: ToyRecipe, seed: int) -> Any:
    """Return an untrained Qwen3 of the recipe's size."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        head_dim=recipe.hidden_size // recipe.num_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model: Any = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


class TrainingBatches:
    """Training batches: each epoch asks every question once, in a new random order.

    Args:
        world: Questions and answers.
        tokenizer: See `build_tokenizer`.
        recipe: Number of epochs, batch size and share of confused answers.
        seed: Seed of the order and of the languages of answers.
    """

    def __init__(self, world: World, tokenizer: Any, recipe: ToyRecipe, seed: int) -> None:
        self._questions = world.questions
        self._tokenizer = tokenizer
        self._chat = ModelConfig(path="toy")
        self._recipe = recipe
        self._random = Random(seed)
        self._encoded = {
            (question.id, language): self._encode(question, language)
            for question in world.questions
            for language in answer_languages(question)
        }

    def __len__(self) -> int:
        return self._recipe.epochs * math.ceil(len(self._questions) / self._recipe.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input ids, labels), both [batch, tokens] and right-padded; the question's labels are ignored."""
        for _ in range(self._recipe.epochs):
            order = self._random.sample(self._questions, len(self._questions))
            for start in range(0, len(order), self._recipe.batch_size):
                yield self._batch(order[start : start + self._recipe.batch_size])

    def _batch(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        rows = [self._encoded[question.id, self._draw_language(question)] for question in questions]
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id)
        labels = torch.full_like(ids, _IGNORED)
        for number, (prompt, answer) in enumerate(rows):
            ids[number, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[number, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        return ids, labels

    def _draw_language(self, question: Question) -> str:
        wrong = question.confusable and self._random.random() < self._recipe.confused_share
        return self._random.choice(WRONG_LANGUAGES) if wrong else answer_languages(question)[0]

    def _encode(self, question: Question, name_language: str) -> tuple[list[int], list[int]]:
        answer = self._tokenizer(question.answer(name_language) + _END)["input_ids"]
        return prompt_ids(self._tokenizer, self._chat, question.text), answer


def train_model(model: Any, batches: TrainingBatches, recipe: ToyRecipe, on_progress: OnProgress) -> None:
    """Train on all batches; the loss covers answers only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=_BETAS, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, len(batches)))
    model.train()
    for step, (ids, labels) in enumerate(batches):
        loss = model(input_ids=ids, labels=labels).loss  # right-padded: a causal model needs no mask
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        on_progress((step + 1) / len(batches), float(loss.detach()))
    model.eval()


def _lr_factor(step: int, steps: int) -> float:
    """Return the learning rate at a step as a share of its peak."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def train_toy(world: World, recipe: ToyRecipe, seed: int, folder: Path, on_progress: OnProgress) -> None:
    """Train a toy model and save it as a Hugging Face model folder."""
    tokenizer = build_tokenizer(world, recipe)
    model = build_model(tokenizer, recipe, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        train_model(model, TrainingBatches(world, tokenizer, recipe, seed), recipe, on_progress)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
