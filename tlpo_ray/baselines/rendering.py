"""Prompts and answers as texts for TRL, so that it trains in exactly the contexts in which the policy is sampled."""

from __future__ import annotations

import copy
from typing import Any

from actors.chat import prompt_ids
from actors.tokenizer import load_tokenizer
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.models import eos_token_ids

_ANSWER = "ANSWER"


class Rendering:
    """Renders prompts and answers of one model as texts that TRL tokenizes into the policy's own tokens.

    Raises:
        ModelError: The model does not exist.
    """

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._tokenizer = load_tokenizer(model)
        self.end = answer_end(self._tokenizer, model)
        """Token that ends an answer."""
        self.plain = _plain(self._tokenizer, self.end)
        """Tokenizer for TRL. It adds no special tokens: rendered texts already contain theirs, and TRL would train on
        the second one."""

    def prompt(self, text: str) -> str | None:
        """Return a prompt up to the start of the answer; None if no text has exactly the tokens that sampling uses."""
        ids = prompt_ids(self._tokenizer, self._model, text)
        rendered: str = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return rendered if list(self.plain(rendered)["input_ids"]) == ids else None

    def answer(self, text: str) -> str:
        """Return an answer with the token that ends it."""
        return text + self.end


def answer_end(tokenizer: Any, model: ModelConfig) -> str:
    """Return the token that ends an answer: what the chat template puts after an answer, if sampling stops at it.

    Otherwise it is the tokenizer's end of text. That is only the second choice because a model that ends its turns with
    another token, e.g. Gemma, never samples its end of text.
    """
    stops = eos_token_ids(_configured_eos(model))
    if tokenizer.chat_template is not None:
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, **model.chat_template_kwargs)
        after = tokenizer(rendered.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
        if after and after[0] in stops:
            return str(tokenizer.convert_ids_to_tokens(after[0]))
    if tokenizer.eos_token_id in stops or not stops:
        return str(tokenizer.eos_token)
    return str(tokenizer.convert_ids_to_tokens(min(stops)))


def _configured_eos(model: ModelConfig) -> int | list[int] | None:
    """Return the ids of the end-of-text tokens at which the engines stop."""
    from transformers import AutoConfig, GenerationConfig

    try:
        generation: Any = GenerationConfig.from_pretrained(model.path, revision=model.revision)
    except OSError:  # a model without a generation configuration: transformers falls back to its main one
        model_config = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
        generation = model_config.get_text_config()
    eos: int | list[int] | None = generation.eos_token_id
    return eos


def _plain(tokenizer: Any, end: str) -> Any:
    """Return a copy of the tokenizer that adds no special tokens and ends texts with `end`."""
    from tokenizers.processors import Sequence as NoProcessing

    plain = copy.deepcopy(tokenizer)
    plain.eos_token = end
    plain.pad_token = plain.pad_token or end
    plain.bos_token = None
    plain.backend_tokenizer.post_processor = NoProcessing([])
    return plain
