"""Complete answers of a model to a list of prompts, sampled in this process by one rollout engine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from detectors import language_code
from detectors.language_table import LANGUAGES
from tlpo_ray.config.decoding import RULES, DecodingConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, check_plugin
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import UserError
from tlpo_ray.flow.conversation import text_of
from tlpo_ray.flow.records import Prompt

if TYPE_CHECKING:
    from actors.completions import Completion
    from actors.worker import RolloutWorker

CPU_KV_CACHE_MIB = 1024
"""Size of the KV cache without a GPU, in MiB: enough for 64 short answers, and small next to a laptop's memory."""
OnProgress = Callable[[int, int], None]
"""Called with (prompts answered, all prompts) while answers are sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Settings for sampling answers.

    Example: ``Sampling(samples=16, temperature=0.7, max_new_tokens=1024, engine="transformers")``
    """

    samples: int = 1
    """Answers per prompt."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    max_new_tokens: int = 512
    """Longest answer, in tokens."""
    engine: RolloutEngine = "vllm"
    """Name of an installed rollout engine."""
    concurrency: int = 64
    """Sequences that the engine runs at once."""
    seed: int = 0
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    """Decoding method."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """What counts as confusion to decoding methods; with `segments`, special tokens that begin or end a part of an
    answer keep their text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What answers have cost, beside their model."""

    seconds: float
    """Time of sampling, without loading the model."""
    tokens: int
    """Tokens of the answers."""
    tokens_sampled: int
    """All tokens that were sampled, those that were taken back included."""
    interventions: int
    """Tokens before which a rule of the decoding method has changed which one is the most probable, or tokens that
    were taken back."""

    @property
    def ms_per_token(self) -> float:
        """Milliseconds per token of the answers, all of them together."""
        return 1000 * self.seconds / max(1, self.tokens)

    @property
    def interventions_per_1000_tokens(self) -> float:
        """Interventions per 1,000 tokens of the answers."""
        return 1000 * self.interventions / max(1, self.tokens)

    def to_json(self) -> dict[str, object]:
        """Return the fields as `result.json` has them."""
        return {
            "seconds": round(self.seconds, 2), "tokens": self.tokens, "tokens_sampled": self.tokens_sampled,
            "interventions": self.interventions, "ms_per_token": round(self.ms_per_token, 3),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswers:
    """Answers, and what they have cost."""

    completions: list[Completion]
    """Answers in the prompts' order."""
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingCounts:
    """Settings with which answers were sampled, and the prompts that were not answered."""

    temperature: float
    max_new_tokens: int
    prompts_answered: int
    prompts_too_long: int
    """Prompts that left no room for an answer in the model's context."""
    prompts_skipped: Mapping[str, int]
    """Prompts that were not asked, by reason."""
    cost: Cost
    """What the answers have cost."""

    def to_json(self) -> dict[str, object]:
        """Return the fields as `result.json` has them."""
        return {
            "temperature": self.temperature, "max_new_tokens": self.max_new_tokens,
            "prompts_answered": self.prompts_answered, "prompts_too_long": self.prompts_too_long,
            "prompts_skipped": dict(self.prompts_skipped), **self.cost.to_json(),
        }  # fmt: skip


def sample_completions(
    model: ModelConfig, prompts: Sequence[Prompt], sampling: Sampling, on_progress: OnProgress | None = None
) -> SampledAnswers:
    """Return `sampling.samples` answers per prompt, in the prompts' order.

    A prompt that cannot be answered gets none: it leaves no room for an answer in the model's context, or the model
    cannot be given it as it is (`skip_reasons`).

    Raises:
        ConfigError: The engine cannot decode by this method.
        ModelError: The model cannot be loaded.
        UserError: No prompt can be answered.
    """
    worker = sampling_worker(model, sampling)
    try:
        return answers_of(worker, model, prompts, sampling, on_progress)
    finally:
        worker.close()


def sampling_worker(model: ModelConfig, sampling: Sampling) -> RolloutWorker:
    """Return a worker with the model loaded, which has to be closed.

    Raises:
        ModelError: The model cannot be loaded.
    """
    from actors.worker import build_worker

    rollout = RolloutConfig(
        engine=sampling.engine,
        temperature=sampling.temperature,
        max_new_tokens=min(sampling.max_new_tokens, model.max_context - 1),
        concurrency=sampling.concurrency,
        kv_cache_mib=None if on_gpu() else CPU_KV_CACHE_MIB,
    )
    return build_worker(model, rollout, sampling.detector, sampling.seed)


def answers_of(
    worker: RolloutWorker,
    model: ModelConfig,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    on_progress: OnProgress | None = None,
) -> SampledAnswers:
    """Return the answers of a worker that `sampling_worker` has made; see `sample_completions`."""
    from actors.chat import TOO_LONG

    counts_interventions = sampling.decoding.method in RULES
    before = worker.interventions if counts_interventions else 0
    if sampling.decoding.method == "prompt":
        prompts = [instructed(prompt) for prompt in prompts]
    completions: list[Completion] = []
    began = time.monotonic()
    # Batches only make progress visible: an answer depends on its prompt's index and the seed, not on its batch.
    for start in range(0, len(prompts), sampling.concurrency):
        batch = prompts[start : start + sampling.concurrency]
        completions += worker.generate(
            batch,
            sampling.samples,
            sampling.temperature,
            min(sampling.max_new_tokens, model.max_context - 1),
            sampling.seed,
            sampling.decoding,
        )
        if on_progress is not None:
            on_progress(start + len(batch), len(prompts))
    seconds = time.monotonic() - began
    if not completions:
        reasons = skip_reasons(model, prompts)
        if reasons.keys() <= {TOO_LONG}:
            raise UserError(f"no prompt leaves room for an answer in {model.max_context} tokens of context")
        raise UserError(f"no prompt can be answered: {', '.join(f'{reason} ({n:,})' for reason, n in reasons.items())}")
    retries = sum(completion.retries for completion in completions)
    interventions = worker.interventions - before if counts_interventions else retries
    cost = Cost(
        seconds=seconds,
        tokens=sum(len(completion.token_ids) for completion in completions),
        tokens_sampled=sum(completion.tokens_sampled for completion in completions),
        interventions=interventions,
    )
    return SampledAnswers(completions=completions, cost=cost)


def instructed(prompt: Prompt) -> Prompt:
    """Return a prompt with an instruction behind it to answer in its language only (decoding method `prompt`)."""
    instruction = (
        f"Answer in {LANGUAGES[language_code(prompt.language)].name} only, without a word of another language."
    )
    if prompt.conversation is None:
        return replace(prompt, text=f"{prompt.text}\n\n{instruction}")
    messages = list(prompt.conversation.messages)
    last = max(number for number, message in enumerate(messages) if message["role"] == "user")
    messages[last] = {**messages[last], "content": f"{text_of(messages[last])}\n\n{instruction}"}
    return replace(prompt, conversation=replace(prompt.conversation, messages=tuple(messages)))


def skip_reasons(model: ModelConfig, prompts: Sequence[Prompt]) -> Counter[str]:
    """Return why prompts cannot be answered, with the number of prompts for each reason; no weights are loaded.

    Raises:
        ModelError: Tokenizer or configuration of the model cannot be loaded, or it does not accept the settings.
    """
    from actors.chat import encode_prompts
    from tlpo_ray.flow.tokenizer import load_tokenizer

    _, skipped = encode_prompts(load_tokenizer(model), model, model.max_context, prompts)
    return Counter(result.reason for result in skipped)


def checked_engine(name: str) -> RolloutEngine:
    """Return the value of `--engine` if a rollout engine of that name is installed.

    Raises:
        UserError: No such engine is installed; the message lists those that are.
    """
    try:
        return check_plugin(ROLLOUT_ENGINES, name)
    except ValueError as error:
        raise UserError(f"--engine {name}: {error}") from error


def on_gpu() -> bool:
    """Return whether engines run on a GPU on this machine."""
    import torch  # late: `tlpo evaluate --answers` imports this module and needs no torch

    return bool(torch.cuda.is_available())
