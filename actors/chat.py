"""The policy's tokenizer and chat template: from the text of a prompt to input tokens."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.errors import ModelError, first_line
from tlpo_ray.flow.models import model_errors


def load_tokenizer(model: ModelConfig) -> Any:
    """Return the model's fast tokenizer; it is loaded once per process.

    Raises:
        ModelError: It cannot be found or read, or it is not a fast tokenizer.
    """
    return _load(model.path, model.revision, model.trust_remote_code)


@lru_cache(maxsize=4)
def _load(path: str, revision: str | None, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    with model_errors(f"model {path!r}: its tokenizer or config.json cannot be read"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {path!r}: no tokenizer found; give a folder with a Hugging Face model or a hub name that can "
                f"be reached ({first_line(error)})"
            ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"model {path!r}: {type(tokenizer).__name__} is not a fast tokenizer, so its tokens' bytes are unknown"
        )
    return tokenizer


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
