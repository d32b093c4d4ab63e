"""Complete answers of a model to a list of prompts, sampled in this process by one rollout engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlpo_ray.config.detector import DetectorConfig, SegmentsConfig
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, check_plugin
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import UserError
from tlpo_ray.flow.records import Prompt

if TYPE_CHECKING:
    from actors.completions import Completion

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
    markers: bool = False
    """Whether special tokens that begin or end a part of an answer keep their text (`detector.segments`)."""


def sample_completions(
    model: ModelConfig, prompts: Sequence[Prompt], sampling: Sampling, on_progress: OnProgress | None = None
) -> list[Completion]:
    """Return `sampling.samples` answers per prompt, in the prompts' order.

    A prompt that cannot be answered gets none: it leaves no room for an answer in the model's context, or the model
    cannot be given it as it is (`skip_reasons`).

    Raises:
        ModelError: The model cannot be loaded.
        UserError: No prompt can be answered.
    """
    from actors.chat import TOO_LONG
    from actors.worker import build_worker

    rollout = RolloutConfig(
        engine=sampling.engine,
        temperature=sampling.temperature,
        max_new_tokens=min(sampling.max_new_tokens, model.max_context - 1),
        concurrency=sampling.concurrency,
        kv_cache_mib=None if on_gpu() else CPU_KV_CACHE_MIB,
    )
    detector = DetectorConfig(segments=SegmentsConfig() if sampling.markers else None)
    worker = build_worker(model, rollout, detector, sampling.seed)
    completions: list[Completion] = []
    try:
        # Batches only make progress visible: an answer depends on its prompt's index and the seed, not on its batch.
        for start in range(0, len(prompts), sampling.concurrency):
            batch = prompts[start : start + sampling.concurrency]
            completions += worker.generate(
                batch, sampling.samples, sampling.temperature, rollout.max_new_tokens, sampling.seed
            )
            if on_progress is not None:
                on_progress(start + len(batch), len(prompts))
    finally:
        worker.close()
    if not completions:
        reasons = skip_reasons(model, prompts)
        if reasons.keys() <= {TOO_LONG}:
            raise UserError(f"no prompt leaves room for an answer in {model.max_context} tokens of context")
        raise UserError(f"no prompt can be answered: {', '.join(f'{reason} ({n:,})' for reason, n in reasons.items())}")
    return completions


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
