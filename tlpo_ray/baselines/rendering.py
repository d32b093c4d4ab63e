"""Prompts and answers as texts for TRL, so that it trains in exactly the contexts in which the policy is sampled."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

from actors.chat import encode_prompt, uses_chat_template
from actors.template import chat_text
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import PromptError
from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.tokenizer import end_of_text_ids, load_tokenizer, vocabulary_rows

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
        self.plain = _plain(self._tokenizer, self.end, vocabulary_rows(model))
        """Tokenizer for TRL. It adds no special tokens: rendered texts already contain theirs, and TRL would train on
        the second one."""

    def prompt(self, content: str | Conversation) -> str | None:
        """Return a prompt, which is a text or a conversation, up to the start of the answer.

        None if sampling skips it, or if no text has exactly the tokens that sampling uses.
        """
        try:
            ids = encode_prompt(self._tokenizer, self._model, content)
        except PromptError:
            return None
        rendered: str = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return rendered if self._plain_ids(rendered) == ids else None

    def answer(self, text: str) -> str:
        """Return an answer with the token that ends it."""
        return text + self.end

    def joins(self, prompt: str, answer: str) -> bool:
        """Return whether the prompt keeps its tokens with the answer behind it.

        TRL tokenizes both together. Where a template ends within a word or with a space, a token may reach from the
        prompt into the answer, and training would be in a context that is never sampled.
        """
        ids = self._plain_ids(prompt)
        return self._plain_ids(prompt + answer)[: len(ids)] == ids

    def length(self, text: str) -> int:
        """Return the length of a rendered text in tokens."""
        return len(self._plain_ids(text))

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.plain(text)["input_ids"])


def answer_end(tokenizer: Any, model: ModelConfig) -> str:
    """Return the token that ends an answer: what the chat template puts after an answer, if sampling stops at it.

    Otherwise it is the tokenizer's end of text. That is only the second choice because a model that ends its turns with
    another token, e.g. Gemma, never samples its end of text.
    """
    stops = end_of_text_ids(model)
    if uses_chat_template(tokenizer, model):
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        rendered = ""
        with suppress(PromptError):  # prompts alone are sampled, and a template may keep those and no answer
            rendered = chat_text(tokenizer, model, turns, add_generation_prompt=False)
        after = tokenizer(rendered.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
        if after and after[0] in stops:
            return str(tokenizer.convert_ids_to_tokens(after[0]))
    if tokenizer.eos_token_id in stops or not stops:
        return str(tokenizer.eos_token)
    return str(tokenizer.convert_ids_to_tokens(min(stops)))


def _plain(tokenizer: Any, end: str, num_rows: int) -> Any:
    """Return a copy of the tokenizer that adds no special tokens and ends texts with `end`."""
    from tokenizers.processors import Sequence as NoProcessing

    plain = copy.deepcopy(tokenizer)
    plain.eos_token = end
    if plain.pad_token is None or plain.pad_token_id >= num_rows:  # one without weights, which TRL would feed
        plain.pad_token = end
    plain.bos_token = None
    plain.backend_tokenizer.post_processor = NoProcessing([])
    return plain
