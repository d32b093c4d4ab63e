"""From the text of a prompt to the policy's input tokens, and the check of a model before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.tokenizer import load_tokenizer
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError
from tlpo_ray.flow.models import model_errors


def check_model(model: ModelConfig) -> None:
    """Check configuration, tokenizer and weight files of a model before anything starts; no weights are read.

    Raises:
        ModelError: It has no configuration, its tokenizer belongs to another model, its chat template does not accept
            the settings, `model.max_context` exceeds its positions, or its weights are pickled and that is not allowed.
    """
    tokenizer = load_tokenizer(model)
    prompt_ids(tokenizer, model, "?")
    with model_errors(f"model {model.path!r} cannot be loaded"):
        _check_config(model, tokenizer)
    folder = Path(model.path)
    pickled = folder.is_dir() and any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))
    if pickled and not model.allow_pickle:
        raise ModelError(
            f"model {model.path!r} has its weights in .bin files, which can run code when they are read: convert them "
            f"to safetensors, or set model.allow_pickle=true if you trust their source"
        )


def _check_config(model: ModelConfig, tokenizer: Any) -> None:
    from transformers import AutoConfig

    source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    config = AutoConfig.from_pretrained(model.path, **source).get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"model {model.path!r}: its tokenizer has {len(tokenizer):,} tokens and its weights {config.vocab_size:,}: "
            f"they belong to different models"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and model.max_context > longest:
        raise ModelError(
            f"model.max_context {model.max_context:,} is more than {model.path!r} can take, {longest:,} tokens: set "
            f"model.max_context={longest}"
        )


def prompt_ids(tokenizer: Any, model: ModelConfig, text: str) -> list[int]:
    """Return the tokens of a prompt up to the point where the answer begins.

    Uses the tokenizer's chat template with the model's system prompt and template arguments; without a template, the
    text itself.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings, for the system prompt and the template arguments.
        text: Text of the prompt.

    Raises:
        ModelError: Template or tokenizer is broken, or the template does not accept these settings.
    """
    with model_errors(
        f"model {model.path!r}: its chat template or tokenizer cannot encode a prompt",
        "; change model.system_prompt or model.chat_template_kwargs, or repair the file",
    ):
        if tokenizer.chat_template is None:
            return list(tokenizer(text)["input_ids"])
        messages = [{"role": "system", "content": model.system_prompt}] if model.system_prompt else []
        messages.append({"role": "user", "content": text})
        rendered = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **model.chat_template_kwargs
        )
        return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
