"""Answers of a model given by its name to prompts given as a file, for `tlpo evaluate` and `tlpo data pairs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tlpo_ray.config.load import Settings, build_config, read_settings
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import PromptSet, read_prompts, usual_field
from tlpo_ray.errors import ModelError, PromptFileError, first_line
from tlpo_ray.evaluation.sampling import SampledAnswers, Sampling, on_gpu, sample_completions
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

PROMPT_ROOM = 2048
"""Tokens of context reserved for the prompt, if the model has that many."""
PROMPT_KEYS = ("system_prompt", "chat_template_kwargs", "prompt_template", "stop_strings", "date")
"""Settings of a model that decide how a prompt is presented to it, and where its answer ends."""


def select_prompts(source: str, language: str, limit: int | None, seed: int, *, skip_bad: bool) -> PromptSet:
    """Return the prompts of one language, however long and in whichever of the usual fields.

    Args:
        source: Prompt file, folder or hub dataset.
        language: Language of the prompts, and the language that the answers should be in.
        limit: Number of prompts to draw at random with `seed`; None takes all, in the file's order.
        seed: Seed of the draw.
        skip_bad: Count records that cannot be read instead of raising.

    Raises:
        PromptFileError: The source cannot be read, or has no prompt in that language.
    """
    data = DataConfig(
        prompts=source, language=language, languages=(language,), limit=limit, shuffle=limit is not None,
        max_characters=sys.maxsize, skip_bad=skip_bad,
    )  # fmt: skip
    selected = read_prompts(data.model_copy(update={"prompt_field": usual_field(data)}), seed)
    if not selected.prompts:
        raise PromptFileError(f"{source}: no prompt in language {language!r}; check --language and the file")
    return selected


def generate(
    path: str,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    like: str | None = None,
    progress: ProgressListener = SILENT,
) -> SampledAnswers:
    """Return sampled answers of the model at `path`, in the prompts' order.

    Args:
        path: Folder or hub name of the model.
        prompts: Prompts to answer; their `index` together with `sampling.seed` fixes each answer.
        sampling: Number, length and temperature of the answers, and the engine.
        like: See `model_for_sampling`.
        progress: Receives one phase with the share of the prompts that are answered.

    Raises:
        ConfigError: The engine cannot decode by this method.
        ModelError: The model does not exist or cannot be loaded.
        UserError: No prompt can be answered.
    """
    model = model_for_sampling(path, sampling.max_new_tokens, like)
    engine = f"{model.path} ({sampling.engine})"
    with progress.phase(f"{len(prompts):,} prompts · {engine}") as update:

        def show(done: int, total: int) -> None:
            update(f"{done:,} of {total:,} prompts · {engine}", done / total)

        return sample_completions(model, prompts, sampling, show)


def model_for_sampling(path: str, max_new_tokens: int, like: str | None = None) -> ModelConfig:
    """Return the configuration with which a model answers: enough context, float32 without a GPU, and today's date.

    Args:
        path: Folder or hub name.
        max_new_tokens: Longest answer, in tokens.
        like: Preset or YAML file with the settings to use that say how prompts are presented (`PROMPT_KEYS`). None
            takes those of the run, if `path` is the model folder of a run.

    Raises:
        ModelError: The model does not exist, or cannot be given these settings.
        ConfigError: `like` cannot be read.
    """
    from actors.chat import with_date

    settings: Settings = {
        "path": path,
        "max_context": _context(path, max_new_tokens),
        "dtype": "bfloat16" if on_gpu() else "float32",
    }
    run_config = Path(path).parent / "config.yaml"
    if like is None and Path(path).name == "model" and run_config.is_file():
        # A model must be asked as it was trained: without its system prompt it is a different policy.
        like = str(run_config)
    model = read_settings(like).get("model", {}) if like is not None else {}
    return with_date(
        build_config(ModelConfig, {key: model[key] for key in PROMPT_KEYS if key in model} | settings, source=str(like))
    )


def _context(model: str, max_new_tokens: int) -> int:
    """Return the tokens of prompt and answer together: those needed, but at most the model's positions."""
    from transformers import AutoConfig

    try:
        text = AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model!r}: no such folder or hub name ({first_line(error)})") from error
    needed = PROMPT_ROOM + max_new_tokens
    return min(needed, getattr(text, "max_position_embeddings", needed))
