"""Whole answers of a model to any prompts: for evaluation, and for data made of a model's own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from tlpo_ray.config.load import Settings, build_config, read_settings
from tlpo_ray.config.run import DetectorConfig, ModelConfig, RolloutConfig
from tlpo_ray.errors import ModelError, UserError, first_line
from tlpo_ray.flow.records import Prompt

if TYPE_CHECKING:
    from actors.worker import Answer

PROMPT_ROOM = 2048
"""Tokens of context kept for a prompt, where the model has as many."""
CPU_KV_CACHE_MIB = 1024
PUT = ("system_prompt", "chat_template_kwargs")
"""Keys of a model that say how prompts are put to it."""
Engine = Literal["vllm", "transformers"]
Track = Callable[[int, int], None]
"""Told (prompts done, prompts) while answers are sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are sampled."""

    samples: int = 1
    """Answers a prompt."""
    temperature: float = 0.6
    """0 is greedy."""
    max_new_tokens: int = 512
    engine: Engine = "vllm"
    concurrency: int = 64
    """Sequences an engine runs at once."""
    seed: int = 0


def asked_model(path: str, max_new_tokens: int, like: str | None = None) -> ModelConfig:
    """How a model is asked for answers: as much context as needed and there is, float32 without a GPU.

    Args:
        path: folder or hub name.
        max_new_tokens: longest answer.
        like: preset or YAML file whose system prompt and chat template arguments are used; none takes those of the run
            folder that the model lies in.

    Raises:
        ModelError: there is no such model.
        ConfigError: `like` cannot be read.
    """
    asked: Settings = {
        "path": path,
        "max_context": _context(path, max_new_tokens),
        "dtype": "bfloat16" if on_gpu() else "float32",
    }
    own = Path(path).parent / "config.yaml"
    if like is None and Path(path).name == "model" and own.is_file():
        like = str(own)
    put = read_settings(like).get("model", {}) if like is not None else {}
    return build_config(ModelConfig, {key: put[key] for key in PUT if key in put} | asked, source=str(like))


def sampled_answers(
    model: ModelConfig, prompts: Sequence[Prompt], sampling: Sampling, track: Track | None = None
) -> list[Answer]:
    """`samples` answers a prompt in the prompts' order; prompts that leave no room for an answer get none.

    Raises:
        ModelError: the model cannot be loaded.
        UserError: no prompt leaves room for an answer.
    """
    from actors.worker import build_worker

    rollout = RolloutConfig(
        engine=sampling.engine,
        temperature=sampling.temperature,
        max_new_tokens=min(sampling.max_new_tokens, model.max_context - 1),
        concurrency=sampling.concurrency,
        kv_cache_mib=None if on_gpu() else CPU_KV_CACHE_MIB,
    )
    worker = build_worker(model, rollout, DetectorConfig(), sampling.seed)
    answers: list[Answer] = []
    try:
        for start in range(0, len(prompts), sampling.concurrency):
            lot = prompts[start : start + sampling.concurrency]
            answers += worker.answers(
                lot, sampling.samples, sampling.temperature, rollout.max_new_tokens, sampling.seed
            )
            if track is not None:
                track(start + len(lot), len(prompts))
    finally:
        worker.close()
    if not answers:
        raise UserError(f"no prompt leaves room for an answer in {model.max_context} tokens of context")
    return answers


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UserError: there is none.
    """
    if name not in get_args(Engine):
        raise UserError(f"--engine {name}: expected {' or '.join(get_args(Engine))}")
    return cast(Engine, name)


def on_gpu() -> bool:
    """Whether engines run on a GPU here."""
    import torch

    return bool(torch.cuda.is_available())


def _context(model: str, max_new_tokens: int) -> int:
    """Tokens of prompt and answer together: what is needed, but no more than the model has positions."""
    from transformers import AutoConfig

    try:
        text = AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model!r}: no such folder or hub name ({first_line(error)})") from error
    needed = PROMPT_ROOM + max_new_tokens
    return min(needed, getattr(text, "max_position_embeddings", needed))
