"""The policy's tokenizer, and whether it fits the policy's weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError, first_line
from tlpo_ray.flow.models import eos_token_ids, model_errors, text_config
from tlpo_ray.loading import heavy_imports

MIN_TOKENS = 256
"""Fewest tokens of a vocabulary that can spell every text: one for each byte."""
TEKKEN = {"mistral_format": False, "fix_mistral_regex": True}
"""Arguments of `from_pretrained` for Mistral's vocabularies: a fast tokenizer instead of mistral-common's, which does
not expose the bytes of its tokens, and the pattern of tekken.json by which texts are split. The tokenizer.json of some
models has another; without this argument transformers warns of that for those which have the right one, too."""


def load_tokenizer(model: ModelConfig) -> Any:
    """Return the model's fast tokenizer; it is loaded once per process.

    Raises:
        ModelError: It cannot be found or read, or it is not a fast tokenizer.
    """
    return _load(model.path, model.revision, model.trust_remote_code)


def vocabulary_rows(model: ModelConfig) -> int:
    """Return the number of token ids that the model's weights have rows for; it is read once per process.

    Raises:
        ModelError: The model's configuration cannot be found or read.
    """
    return _rows(model.path, model.revision, model.trust_remote_code)


def check_vocabulary(tokenizer: Any, model: ModelConfig, vocab_size: int, probe: Sequence[int]) -> None:
    """Check that neither answers nor the template of prompts can contain a token without a row in the weights.

    Added tokens without one are accepted, because the model cannot sample them: `<image_soft_token>` of every Gemma 3
    without vision. Prompts whose own text contains one are skipped when they are encoded.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings.
        vocab_size: Number of rows.
        probe: Tokens of a prompt.

    Raises:
        ModelError: They can.
    """
    base = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    longest = 1 + max(base.values())
    if longest > vocab_size:
        raise ModelError(
            f"model {model.path!r}: its tokenizer has {longest:,} tokens and its weights {vocab_size:,}: "
            f"they belong to different models"
        )
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
    if beyond := sorted(token for token in named.union(probe) if token >= vocab_size):
        raise ModelError(
            f"model {model.path!r}: prompts or answers contain {tokenizer.convert_ids_to_tokens(beyond[0])!r}, token "
            f"{beyond[0]:,} of its tokenizer, and its weights have only {vocab_size:,} tokens: take both from one place"
        )


def end_of_text_ids(model: ModelConfig) -> frozenset[int]:
    """Return the tokens that end an answer, for engines and reports alike.

    These are the ones that the model's generation configuration names, or without one its main configuration, as in
    transformers and vLLM, and the one that its tokenizer names. Tokens without a row in the weights are left out.

    Raises:
        ModelError: Tokenizer or configuration cannot be loaded.
    """
    from transformers import AutoConfig, GenerationConfig

    tokenizer = load_tokenizer(model)
    with model_errors(f"model {model.path!r}: its end-of-text tokens cannot be read"):
        try:
            generation = GenerationConfig.from_pretrained(model.path, revision=model.revision)
        except OSError:
            source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
            generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(model.path, **source))
        named = eos_token_ids(generation.eos_token_id) | eos_token_ids(tokenizer.eos_token_id)
    return frozenset(token for token in named if token < vocabulary_rows(model))


@lru_cache(maxsize=4)
def _load(path: str, revision: str | None, trust_remote_code: bool) -> Any:
    # The module of the tokenizer's class is imported when it is loaded.
    with heavy_imports(), model_errors(f"model {path!r}: its tokenizer or config.json cannot be read"):
        from transformers import AutoTokenizer

        tekken = _file(path, "tekken.json", revision)
        try:
            if tekken is not None and _file(path, "tokenizer.json", revision) is None:
                tokenizer = _from_tekken(path, tekken)
            else:
                tokenizer = AutoTokenizer.from_pretrained(
                    path, revision=revision, trust_remote_code=trust_remote_code, **(TEKKEN if tekken else {})
                )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {path!r}: no tokenizer found; give a folder with a Hugging Face model and its tokenizer, or a "
                f"hub name that can be reached ({first_line(error)})"
            ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"model {path!r}: {type(tokenizer).__name__} is not a fast tokenizer, so its tokens' bytes are unknown"
        )
    # Without files, transformers makes a vocabulary of the few special tokens of the model's type, and does not say so.
    if (size := tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)) < MIN_TOKENS:
        raise ModelError(
            f"model {path!r}: its tokenizer has a vocabulary of {size} tokens, which cannot spell every text: "
            f"tokenizer.json is missing or damaged; copy it from the model's source"
        )
    return tokenizer


def _from_tekken(path: str, tekken: str) -> Any:
    """Return the fast tokenizer of a model that comes with tekken.json alone, with the chat template of its version."""
    if find_spec("mistral_common") is None:
        raise ModelError(
            f"model {path!r} has tekken.json and no tokenizer.json: install mistral-common, which knows its special "
            f"tokens and its chat template, with pip install mistral-common"
        )
    from transformers.integrations.mistral import convert_tekken_tokenizer

    return convert_tekken_tokenizer(tekken)


def _file(path: str, name: str, revision: str | None) -> str | None:
    """Return the path of a file of a model, from its folder or from the hub; None if there is none."""
    from transformers.utils import cached_file

    try:
        return str(cached_file(path, name, revision=revision))
    except OSError:
        return None


@lru_cache(maxsize=4)
def _rows(path: str, revision: str | None, trust_remote_code: bool) -> int:
    model = ModelConfig(path=path, revision=revision, trust_remote_code=trust_remote_code)
    return int(text_config(model).vocab_size)
