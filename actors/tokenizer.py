"""The policy's tokenizer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tlpo_ray.config.model import ModelConfig
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
