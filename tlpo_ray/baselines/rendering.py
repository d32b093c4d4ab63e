"""Texts as TRL gets them, so that it trains in the very contexts in which the policy is asked."""

from __future__ import annotations

import copy
from typing import Any

from actors.chat import load_tokenizer, prompt_ids
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.flow.models import eos_set

_ANSWER = "ANSWER"


class Rendering:
    """Prompts and answers of one model as texts that TRL's tokenizing turns into the policy's own tokens.

    Raises:
        ModelError: there is no such model.
    """

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._tokenizer = load_tokenizer(model)
        self.end = answer_end(self._tokenizer, model)
        """The token that ends an answer."""
        self.plain = _plain(self._tokenizer, self.end)
        """The tokenizer for TRL. It adds nothing: rendered texts hold their special tokens already, and a second
        one would be learned."""

    def prompt(self, text: str) -> str | None:
        """A prompt up to where the answer begins; None if no text gives the tokens that the policy is asked with."""
        ids = prompt_ids(self._tokenizer, self._model, text)
        rendered: str = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return rendered if list(self.plain(rendered)["input_ids"]) == ids else None

    def answer(self, text: str) -> str:
        """A whole answer, with its end."""
        return text + self.end


def answer_end(tokenizer: Any, model: ModelConfig) -> str:
    """The token that ends an answer: what the chat template puts after one, if sampling stops at it.

    Else the tokenizer's end of text: of models whose turns end with another token, that one alone is never sampled.
    """
    stops = eos_set(_configured_eos(model))
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
    """End-of-text tokens at which the engines stop."""
    from transformers import AutoConfig, GenerationConfig

    try:
        generation: Any = GenerationConfig.from_pretrained(model.path, revision=model.revision)
    except OSError:  # without one, transformers takes the model's configuration
        whole = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
        generation = whole.get_text_config()
    eos: int | list[int] | None = generation.eos_token_id
    return eos


def _plain(tokenizer: Any, end: str) -> Any:
    from tokenizers.processors import Sequence as Nothing

    plain = copy.deepcopy(tokenizer)
    plain.eos_token = end
    plain.pad_token = plain.pad_token or end
    plain.bos_token = None
    plain.backend_tokenizer.post_processor = Nothing([])
    return plain
