"""A small causal language model that knows the toy world and mixes its languages.

Trained from nothing, because no weights can be downloaded on a closed machine. What it learns is the chat format, every
question's answer, and to give it in a wrong language in a share of the answers to questions that slip.
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
from tlpo_ray.config.run import ModelConfig
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
"""A second one gains nothing on matrices this small, costs a lot on a busy machine, and would change the weights."""

Progress = Callable[[float, float], None]
"""Of (share of training done, loss in nats a token)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyRecipe:
    """Size and training of the toy model."""

    vocabulary: int = 1024
    """Most tokens. Few, so that tokens are shorter than words: then a name in the question can be copied, and names
    share their first tokens with names of their own script."""
    layers: int = 2
    hidden: int = 128
    heads: int = 4
    feed_forward: int = 512
    wrong_share: float = 0.4
    """Share of training answers, to questions that slip, whose name stands in a wrong language."""
    rounds: int = 40
    """How often each question is asked in training."""
    batch: int = 16
    """Questions an optimizer step."""
    lr: float = 3e-3
    """Peak; linear warm-up over the first tenth, then a cosine to 0."""
    weight_decay: float = 0.1


def build_tokenizer(world: World, recipe: ToyRecipe) -> Any:
    """Byte-level BPE trained on the world's own sentences, with a chat template.

    Spaces are tokens of their own, so that a wrong name parts from the right one at its first letter: at the confusion
    point. Were they merged into words as usual, many wrong names would begin with a lone space where the right name
    does not. Then that space decides the language, but the confusion point comes after it, where no candidate leads to
    the right name any more: what TLPO makes probable there is the name of some other currency.
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
        vocab_size=recipe.vocabulary,
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
    """The languages in which the toy model may name the answer, the right one first."""
    return (question.language, *WRONG_LANGUAGES) if question.slips else (question.language,)


def build_model(tokenizer: Any, recipe: ToyRecipe, seed: int) -> Any:
    """An untrained Qwen3 of the recipe's size."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden // recipe.heads,
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


class Lessons:
    """Training batches: every round asks every question once, in an order of its own."""

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
        return self._recipe.rounds * math.ceil(len(self._questions) / self._recipe.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(input ids, labels), both [batch, tokens], right-padded; labels of the question are ignored."""
        for _ in range(self._recipe.rounds):
            order = self._random.sample(self._questions, len(self._questions))
            for start in range(0, len(order), self._recipe.batch):
                yield self._batch(order[start : start + self._recipe.batch])

    def _batch(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        rows = [self._encoded[question.id, self._language(question)] for question in questions]
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id)
        labels = torch.full_like(ids, _IGNORED)
        for number, (prompt, answer) in enumerate(rows):
            ids[number, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[number, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        return ids, labels

    def _language(self, question: Question) -> str:
        wrong = question.slips and self._random.random() < self._recipe.wrong_share
        return self._random.choice(WRONG_LANGUAGES) if wrong else question.language

    def _encode(self, question: Question, name_language: str) -> tuple[list[int], list[int]]:
        answer = self._tokenizer(question.answer(name_language) + _END)["input_ids"]
        return prompt_ids(self._tokenizer, self._chat, question.text), answer


def train_model(model: Any, lessons: Lessons, recipe: ToyRecipe, progress: Progress) -> None:
    """Train on all lessons; the loss is on answers only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=_BETAS, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_share(step, len(lessons)))
    model.train()
    for step, (ids, labels) in enumerate(lessons):
        loss = model(input_ids=ids, labels=labels).loss  # right-padded: a causal model needs no mask
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress((step + 1) / len(lessons), float(loss.detach()))
    model.eval()


def _lr_share(step: int, steps: int) -> float:
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def train_toy(world: World, recipe: ToyRecipe, seed: int, folder: Path, progress: Progress) -> None:
    """Train a toy model and save it as a Hugging Face model folder."""
    tokenizer = build_tokenizer(world, recipe)
    model = build_model(tokenizer, recipe, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        train_model(model, Lessons(world, tokenizer, recipe, seed), recipe, progress)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
