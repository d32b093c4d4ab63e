"""Smoothie: the rows of the output head that belong to tokens of unwanted scripts are scaled down; nothing is trained.

The method of Smoothie-Qwen (arXiv 2507.05686; github.com/dnotitia/smoothie-qwen). With m = `min_scale` and
b = `smoothness`, the row of token t is multiplied by

    S(t) = m                                            if t holds a complete character of an unwanted script,
    S(t) = 1 - (1 - m) · ln(1 + (b - 1) · p(t)) / ln b  if t ends within a character,
    S(t) = 1                                            otherwise.

p(t) is between 0 and 1, so S(t) falls from 1 to m. Let P be the tokens that hold a part of a character. p_n(t) is the
share of all |P|^(n - 1) sequences of n - 1 tokens of P that complete the unfinished character of t to one of an
unwanted script, and p(t) = Σ w_n · p_n(t) / Σ w_n over n = 2, 3, 4, with the weights `ngram_weights`.

It departs from the original in two points. The original draws 1,000 sequences at random, here all of them count, so
that the result is exact and has no seed. And the original counts a sequence with an unwanted character anywhere in it,
here only if that character begins in t: what another token brings along says nothing about this one.

The row is scaled, not the logit lowered: where the model gives a token a negative logit, scaling raises it.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

import detectors
from actors.chat import encode_prompts
from actors.token_bytes import TokenBytes, decoded
from detectors.language_table import LANGUAGES
from detectors.script_ranges import RANGES
from detectors.scripts import ranges_of, search_class
from learner.batch import pad_contexts
from learner.checkpoint import export_model
from learner.policy import load_model, next_token_logp
from tlpo_ray.config.baseline import SmoothieConfig, SmoothieRunConfig
from tlpo_ray.errors import ConfigError, ModelError
from tlpo_ray.files import disk_errors
from tlpo_ray.flow.file_layout import file_layout
from tlpo_ray.flow.models import check_not_quantized, text_config, tied_names
from tlpo_ray.flow.records import Prompt
from tlpo_ray.flow.tokenizer import load_tokenizer

PROBABILITIES = ("probability_before", "probability_after")
"""Names of `ScaledHead.probability` in `result.json`."""
MEASURED_PROMPTS = 32
"""Number of prompts over which that is the mean."""
_UNFINISHED = re.compile("[\udc80-\udcff]")
"""A byte that is not part of a complete character, as `TokenBytes.text` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledHead:
    """What has been done to the output head.

    Example: ``ScaledHead(scripts=("Cyrillic", "Thai"), tokens=312, parts=41, tied=True)``
    """

    scripts: tuple[str, ...]
    """Scripts whose tokens were scaled."""
    tokens: int
    """Number of rows scaled by `min_scale`: tokens with a complete character of these scripts."""
    parts: int
    """Number of rows scaled by less: tokens that end within such a character."""
    tied: bool
    """Whether the head shared its weights with the embeddings, and has weights of its own now."""
    probability: tuple[float, float] | None = None
    """Probability of all scaled tokens together as the first token of an answer, mean over some of the prompts, before
    and after scaling; None without prompts."""

    def to_json(self) -> dict[str, object]:
        """Return the fields as `result.json` has them."""
        found = {} if self.probability is None else dict(zip(PROBABILITIES, self.probability, strict=True))
        rows = {"tokens": self.tokens, "parts": self.parts, "tied_before": self.tied}
        return {"scripts": list(self.scripts), **rows, **found}


def unwanted_scripts(config: SmoothieRunConfig, languages: Iterable[str]) -> tuple[str, ...]:
    """Return the scripts whose tokens are to be scaled down.

    Args:
        config: The run; `smoothie.suppress` and `detector.english` are used.
        languages: Languages of the prompts.

    Raises:
        UnknownLanguageError: A language of the prompts is not in the language table.
        ConfigError: A setting names neither a language nor a script, or a script that the prompts are written in; or
            English is confusion in a language of Latin script.
    """
    targets = {language: LANGUAGES[detectors.language_code(language)] for language in languages}
    wanted = {script: language for language, row in targets.items() for script in row.scripts}
    english = config.detector.english
    if config.smoothie.suppress:
        return tuple(dict.fromkeys(script for name in config.smoothie.suppress for script in _scripts(name, wanted)))
    if english == "confusion" and "Latin" in wanted:
        raise ConfigError(
            f"detector.english=confusion: smoothie separates languages by their scripts, and {wanted['Latin']!r} is "
            f"written in Latin like English: take another method, or set smoothie.suppress or detector.english=neutral"
        )
    kept = wanted.keys() | ({"Latin"} if english == "neutral" else set())
    return tuple(script for script in RANGES if script not in kept)


def _scripts(name: str, wanted: Mapping[str, str]) -> Sequence[str]:
    """Return the scripts that an entry of `smoothie.suppress` stands for, without those that the prompts have.

    Args:
        name: A language or a script.
        wanted: Script → language of the prompts that is written in it.
    """
    try:
        language = detectors.code_or_name(name)
        scripts: Sequence[str] = LANGUAGES[language].scripts
    except KeyError as error:
        by_name = {script.casefold(): script for script in RANGES}
        if name.casefold() not in by_name:
            raise ConfigError(
                f"smoothie.suppress: {name!r} is neither a language of the detectors nor a script: a language is "
                f"named like zh, a script like Han or Cyrillic"
            ) from error
        scripts = (by_name[name.casefold()],)
    if scripts[0] in wanted:
        raise ConfigError(
            f"smoothie.suppress: {name} cannot be scaled down, because {wanted[scripts[0]]!r}, a language of the "
            f"prompts, is written in {scripts[0]}, too: remove one of the two"
        )
    return [script for script in scripts if script not in wanted]


def row_scales(tokenizer: Any, scripts: Sequence[str], settings: SmoothieConfig) -> dict[int, float]:
    """Return the factor of each token's row that is not 1 (S in the module's docstring).

    Added tokens (`<think>`, image tokens) belong to the format of prompts and keep their rows, whatever they spell.

    Args:
        tokenizer: A fast tokenizer of transformers.
        scripts: Names of the unwanted scripts.
        settings: Smallest factor, smoothness and weights.

    Raises:
        ModelError: The bytes of the tokenizer's tokens are unknown.
    """
    unwanted = search_class(sorted(pair for script in scripts for pair in ranges_of(RANGES[script])))
    token_bytes, added = TokenBytes(tokenizer), tokenizer.added_tokens_decoder
    texts = {
        token: token_bytes.text([token]) for token in sorted(set(tokenizer.get_vocab().values())) if token not in added
    }
    parts = [token for token, text in texts.items() if _UNFINISHED.search(text)]
    completion = _Completion([token_bytes[token] for token in parts], unwanted)
    scales = {token: settings.min_scale for token, text in texts.items() if unwanted.search(text)}
    for token in parts:
        probability = completion.probability(token_bytes[token], settings.ngram_weights)
        if token not in scales and probability:
            scales[token] = scale(probability, settings.min_scale, settings.smoothness)
    return scales


def scale(probability: float, min_scale: float, smoothness: float) -> float:
    """Return S of the module's docstring for a token that ends within a character, given its p."""
    return 1 - (1 - min_scale) * math.log(1 + (smoothness - 1) * probability) / math.log(smoothness)


class _Completion:
    """How often tokens with parts of characters complete an unfinished character to one of an unwanted script.

    The share over all sequences is computed by the bytes that are still unfinished, of which there are few: never is a
    list of sequences made.

    Args:
        parts: Bytes of each token that holds a part of a character.
        unwanted: Pattern of one character of an unwanted script.
    """

    def __init__(self, parts: Sequence[bytes], unwanted: re.Pattern[str]) -> None:
        self._parts = Counter(parts)
        self._unwanted = unwanted
        self._share = cache(self._computed_share)

    def probability(self, token: bytes, weights: Sequence[float]) -> float:
        """Return p of the module's docstring for a token with these bytes."""
        _, unfinished = decoded(token)
        if not unfinished:
            return 0.0
        shares = (weight * self._share(unfinished, length) for length, weight in enumerate(weights, start=1))
        return sum(shares) / sum(weights)

    def _computed_share(self, unfinished: bytes, length: int) -> float:
        """Return the share of sequences of `length` tokens that complete `unfinished` to an unwanted character."""
        if not length:
            return 0.0
        found = 0.0
        for part, count in self._parts.items():
            text, rest = decoded(unfinished + part)
            if text:
                found += count * (self._unwanted.match(text) is not None)
            else:
                found += count * self._share(rest, length - 1)
        return found / self._parts.total()


def scale_head(config: SmoothieRunConfig, scripts: Sequence[str], prompts: Sequence[Prompt] = ()) -> ScaledHead:
    """Write the model with scaled rows into the run's folder, as `model`.

    All other weights stay as they are. A head that shares its weights with the embeddings gets weights of its own, and
    the configuration then says so.

    Args:
        config: The run.
        scripts: Scripts whose tokens are scaled down.
        prompts: Prompts after some of which the probability of the scaled tokens is measured; empty measures nothing.

    Raises:
        ModelError: The model cannot be loaded, is quantized, or has no head that can be scaled.
        ConfigError: No token has a character of these scripts.
        ResourceError: The model cannot be written.
    """
    model, tokenizer = config.model, load_tokenizer(config.model)
    check_not_quantized(text_config(model), model)
    scales = row_scales(tokenizer, scripts, config.smoothie)
    if not scales:
        raise ConfigError(
            f"smoothie.suppress: no token of model {model.path!r} has a character of {', '.join(scripts)}: the model "
            f"would stay as it is"
        )
    policy: Any = load_model(model, getattr(torch, model.dtype), trainable=False)
    name, head = _head(policy, config)
    weights = {name: weight.detach() for name, weight in policy.named_parameters()}
    tied = name in tied_names(model)
    rows = [token for token in scales if token < len(head)]
    weights[name] = scaled_rows(head, {token: scales[token] for token in rows})
    layout, folder = file_layout(policy, model), config.folder / "model"
    with disk_errors(f"the model to {folder}"):
        export_model(weights.items(), model, folder, layout)
    complete = sum(scales[token] == config.smoothie.min_scale for token in rows)
    encoded, _ = encode_prompts(tokenizer, model, model.max_context, prompts[:MEASURED_PROMPTS])
    contexts = [ids for _, ids in encoded]
    probability: tuple[float, float] | None = None
    if contexts:
        before = _probability(policy, contexts, rows)
        policy.get_output_embeddings().weight = torch.nn.Parameter(weights[name], requires_grad=False)
        probability = before, _probability(policy, contexts, rows)
    return ScaledHead(
        scripts=tuple(scripts), tokens=complete, parts=len(rows) - complete, tied=tied, probability=probability
    )


def _probability(policy: Any, contexts: Sequence[Sequence[int]], tokens: Sequence[int]) -> float:
    """Return the probability that the token after a context is one of `tokens`, mean over the contexts."""
    with torch.no_grad():
        masses = [next_token_logp(policy, pad_contexts([ids]))[0, tokens].exp().sum().item() for ids in contexts]
    return statistics.fmean(masses)


def scaled_rows(head: Tensor, scales: Mapping[int, float]) -> Tensor:
    """Return a copy of a [vocabulary, hidden] tensor with some rows multiplied, each rounded once to its dtype."""
    scaled, rows = head.detach().clone(), list(scales)
    factors = torch.tensor([scales[row] for row in rows], dtype=torch.float64)
    scaled[rows] = (head[rows].double() * factors[:, None]).to(head.dtype)
    return scaled


def _head(policy: Any, config: SmoothieRunConfig) -> tuple[str, Tensor]:
    """Return the name and the weight of a model's output head.

    Raises:
        ModelError: It has none, or shares its weights and must not be untied.
    """
    head = policy.get_output_embeddings()
    module = next((name for name, module in policy.named_modules() if module is head), None)
    if head is None or module is None:
        raise ModelError(f"model {config.model.path!r} has no output head of its own, so that smoothie cannot scale it")
    embeddings = policy.get_input_embeddings()
    if head.weight is embeddings.weight and not config.smoothie.untie:
        raise ModelError(
            f"model {config.model.path!r}: its output head shares its weights with the embeddings, and scaling would "
            f"change both: set smoothie.untie=true to give the head weights of its own"
        )
    return f"{module}.weight", head.weight
