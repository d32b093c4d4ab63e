"""Perplexity of a model on texts that people wrote: what training has cost a language besides its confusion."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import detectors
from tlpo_ray.config.run import DataConfig
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.prompts import PromptSet, read_prompts, usual_field
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.generation import model_for_sampling
from tlpo_ray.evaluation.judge import Json
from tlpo_ray.evaluation.output import refuse_used, write_output
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

MAX_TOKENS = 512
"""Tokens of a text that are looked at; a longer one is cut there, and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityRequest:
    """Which texts a model is to predict.

    Example: ``PerplexityRequest(model="runs/quickstart/model", texts="texts.jsonl", languages=("ko",), limit=100)``
    """

    model: str
    """Folder or hub name."""
    texts: str
    """File, folder or hub dataset with texts in one of the fields in which prompts are found, and their languages."""
    languages: tuple[str, ...] = ()
    """Languages to measure; empty takes all that the texts are in."""
    limit: int | None = None
    """Largest number of texts per language, drawn with `seed`."""
    seed: int = 0
    skip_bad: bool = False
    """Count records that cannot be read instead of raising."""

    def __post_init__(self) -> None:
        """Take any names of languages for their codes."""
        object.__setattr__(self, "languages", tuple(map(detectors.code_or_name, self.languages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePerplexity:
    """Perplexity of the texts in one language."""

    language: str
    texts: int
    cut_off: int
    """Texts of which only the first `MAX_TOKENS` tokens were looked at."""
    tokens: int
    """Predicted tokens."""
    nats: float
    """Mean negative log-probability of a token."""

    @property
    def perplexity(self) -> float:
        """Perplexity per token: comparable between models of one tokenizer only."""
        return math.exp(self.nats)

    def to_json(self) -> Json:
        """Return the language's row of `result.json`."""
        return {
            "language": self.language, "texts": self.texts, "cut_off": self.cut_off, "tokens": self.tokens,
            "perplexity": round(self.perplexity, 4),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityResult:
    """Perplexities by language."""

    request: PerplexityRequest
    languages: tuple[LanguagePerplexity, ...]
    skipped: Mapping[str, int]
    """Records that were left out, by reason."""

    @property
    def perplexity(self) -> float:
        """Geometric mean over the languages, so that none counts for more because it has more texts."""
        return math.exp(sum(each.nats for each in self.languages) / len(self.languages))

    def to_json(self) -> Json:
        """Return the content of `result.json`."""
        return {
            "model": self.request.model, "texts": self.request.texts, "limit": self.request.limit,
            "seed": self.request.seed, "perplexity": round(self.perplexity, 4),
            "by_language": [each.to_json() for each in self.languages], "skipped": dict(self.skipped),
            "stack": stack_versions(),
        }  # fmt: skip

    def write(self, output: Path) -> None:
        """Write `result.json` into a folder.

        Raises:
            UserError: The folder already holds a result.
            ResourceError: The folder cannot be written.
        """
        refuse_used(output)
        write_output(output, self.to_json())


def measure_perplexity(request: PerplexityRequest, progress: ProgressListener = SILENT) -> PerplexityResult:
    """Return the perplexity of a model on texts, by language.

    Each text is a sequence of its own, with the special tokens that the tokenizer puts before a text, and without a
    chat template: what is measured is the language, not the conversation.

    Args:
        request: Model and texts, which are read before the model is loaded.
        progress: Receives a phase per language.

    Raises:
        UnknownLanguageError: A language has no detector.
        UserError: The texts cannot be read or are conversations; or in one of the languages there is none, or none
            with two tokens.
        ModelError: The model does not exist or cannot be loaded.
    """
    for language in request.languages:
        detectors.language(language)
    texts = _texts(request)
    by_language: dict[str, list[Prompt]] = {}
    for text in texts.prompts:
        by_language.setdefault(text.language, []).append(text)
    for line in texts.note_lines():
        progress.note(line)
    with progress.phase(f"loading {request.model}"):
        policy, tokenizer = _load(request.model)
    measured: list[LanguagePerplexity] = []
    for language in sorted(by_language):
        chosen = by_language[language][: request.limit]
        with progress.phase(f"{len(chosen):,} texts · {language}"):
            measured.append(_language(policy, tokenizer, language, [text.text for text in chosen]))
    return PerplexityResult(request=request, languages=tuple(measured), skipped=texts.skipped)


def _texts(request: PerplexityRequest) -> PromptSet:
    data = DataConfig(
        prompts=request.texts, languages=request.languages, max_characters=sys.maxsize, skip_bad=request.skip_bad,
        shuffle=request.limit is not None,
    )  # fmt: skip
    texts = read_prompts(data.model_copy(update={"prompt_field": usual_field(data)}), request.seed)
    missing = [language for language in request.languages if language not in texts.languages]
    if missing or not texts.prompts:
        raise UserError(f"--perplexity {request.texts}: no text in {', '.join(missing) or 'any language'}")
    for place, text in texts.examples:
        if text.conversation is not None:
            # Of a conversation only the last question would be measured, and none of what was written in answer.
            raise UserError(
                f"--perplexity {place}: a conversation, expected a text: give a file with the field text or prompt"
            )
    return texts


def _load(model: str) -> tuple[Any, Any]:
    import torch

    from tlpo_ray.evaluation.sampling import on_gpu
    from tlpo_ray.flow.models import load_causal_lm
    from tlpo_ray.flow.tokenizer import load_tokenizer

    config = model_for_sampling(model, MAX_TOKENS)
    policy = load_causal_lm(config, getattr(torch, config.dtype))
    return policy.to("cuda" if on_gpu() else "cpu").eval(), load_tokenizer(config)


def _language(policy: Any, tokenizer: Any, language: str, texts: Sequence[str]) -> LanguagePerplexity:
    nats, tokens, cut_off = 0.0, 0, 0
    for ids in (tokenizer(text)["input_ids"] for text in texts):
        cut_off += len(ids) > MAX_TOKENS
        for nat in _token_nats(policy, ids[:MAX_TOKENS]):
            nats += nat
            tokens += 1
    if not tokens:
        raise UserError(f"--perplexity: no text in {language} has two tokens, so there is nothing to predict")
    return LanguagePerplexity(language=language, texts=len(texts), cut_off=cut_off, tokens=tokens, nats=nats / tokens)


def _token_nats(policy: Any, ids: Sequence[int]) -> Iterator[float]:
    """Yield the negative log-probability of each token after the first."""
    import torch

    if len(ids) < 2:
        return
    ids_1L = torch.tensor([list(ids)], device=policy.device)
    with torch.inference_mode():
        logits_LV = policy(input_ids=ids_1L).logits[0, :-1].float()
        yield from torch.nn.functional.cross_entropy(logits_LV, ids_1L[0, 1:], reduction="none").tolist()
