"""From the text of a prompt to the policy's input tokens, and the check of a model before anything starts."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from actors.template import PROBE, chat_text, probes_of
from tlpo_ray.config.model import PROMPT, LoraConfig, ModelConfig
from tlpo_ray.errors import ModelError, PromptError, PromptFileError, first_line
from tlpo_ray.flow.conversation import SYSTEM_ROLES, Conversation, Message, text_of
from tlpo_ray.flow.lora import check_targets
from tlpo_ray.flow.models import check_not_quantized, model_errors
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult
from tlpo_ray.flow.tokenizer import check_vocabulary, load_tokenizer, vocabulary_rows

EncodedPrompt = tuple[Prompt, tuple[int, ...]]
"""A prompt and its tokens."""
TOO_LONG = "longer than the context"
EMPTY = "has no tokens"
REFUSED = "its chat template refuses the prompt"
NO_TEMPLATE = "its conversation needs a chat template"
ONE_TEXT = "its conversation does not fit into model.prompt_template, which is for one text"
UNKNOWN_TOKEN = "has a token that the model's weights lack"
"""Reasons of a skipped prompt, as `result.json` has them."""
OTHER_DAYS = datetime.datetime(1999, 12, 31, 23, 59, 59), datetime.datetime(2001, 1, 2)
"""Two days that differ however they are written."""


def check_model(model: ModelConfig, lora: LoraConfig | None = None) -> None:
    """Check configuration, tokenizer and weight files of a model before anything starts; no weights are read.

    Args:
        model: Model settings.
        lora: The adapter that will be trained; None if all weights will be.

    Raises:
        ModelError: It has no configuration, its tokenizer belongs to another model, its chat template does not accept
            the settings or does not keep a prompt as it is, `model.max_context` exceeds its positions, or its weights
            are pickled and that is not allowed.
        ConfigError: It lacks layers that shall get an adapter.
    """
    tokenizer = load_tokenizer(model)
    try:
        probe = prompt_ids(tokenizer, model, PROBE)
    except PromptError as error:
        raise ModelError(
            f"model {model.path!r}: {error}: repair it, or put prompts into a text of your own with "
            f"model.prompt_template"
        ) from error
    with model_errors(f"model {model.path!r} cannot be loaded"):
        _check_config(model, tokenizer, probe)
    if lora is not None:
        check_targets(model, lora)
    folder = Path(model.path)
    pickled = folder.is_dir() and any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))
    if pickled and not model.allow_pickle:
        raise ModelError(
            f"model {model.path!r} has its weights in .bin files, which can run code when they are read: convert them "
            f"to safetensors, or set model.allow_pickle=true if you trust their source"
        )


def _check_config(model: ModelConfig, tokenizer: Any, probe: Sequence[int]) -> None:
    from transformers import AutoConfig

    source = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    config = AutoConfig.from_pretrained(model.path, **source)
    check_not_quantized(config, model)
    config = config.get_text_config()
    check_vocabulary(tokenizer, model, config.vocab_size, probe)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and model.max_context > longest:
        raise ModelError(
            f"model.max_context {model.max_context:,} is more than {model.path!r} can take, {longest:,} tokens: set "
            f"model.max_context={longest}"
        )


def with_date(model: ModelConfig) -> ModelConfig:
    """Return the settings with today's date, if the chat template asks for the date and the settings have none.

    Raises:
        ModelError: See `prompt_ids`.
    """
    tokenizer = load_tokenizer(model)
    if model.date is not None or not uses_chat_template(tokenizer, model):
        return model
    texts: set[str] = set()
    with _template_errors(model), suppress(PromptError):  # the prompts themselves will show
        # The clock alone: a template such as Llama 3.1's has a fixed date for want of a given one, and keeps it.
        texts = {chat_text(tokenizer, model, _messages(model, PROBE), strftime_now=day.strftime) for day in OTHER_DAYS}
    return model.model_copy(update={"date": datetime.date.today()}) if len(texts) > 1 else model


def prompt_ids(tokenizer: Any, model: ModelConfig, content: str | Conversation) -> list[int]:
    """Return the tokens of a prompt up to the point where the answer begins.

    The prompt is put into `model.prompt_template` if there is one, else into the tokenizer's chat template, with the
    system prompt, the template arguments and the date of the settings. Without either, it is the text itself. The
    system prompt of a conversation replaces that of the settings.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings.
        content: Text or conversation that is the prompt.

    Raises:
        PromptError: The chat template drops or changes this prompt or the system prompt; or the prompt is a
            conversation of several messages, and there is no chat template.
        ModelError: Template or tokenizer is broken, or the template does not accept these settings.
    """
    with _template_errors(model):
        if uses_chat_template(tokenizer, model):
            tools = () if isinstance(content, str) else content.tools
            rendered = chat_text(tokenizer, model, _messages(model, content), tools)
            return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
        if model.system_prompt:
            raise ModelError(
                f"model {model.path!r} has no chat template, so model.system_prompt has no effect: put it into "
                f"model.prompt_template, or set model.system_prompt=null"
            )
        return _plain_ids(tokenizer, plain_text(model, _only_text(model, content)))


def encode_prompt(tokenizer: Any, model: ModelConfig, content: str | Conversation) -> list[int]:
    """Return `prompt_ids` of a prompt that the model can be given.

    Raises:
        PromptError: It cannot be given this prompt; the message says why, without its text.
        ModelError: It cannot be given any prompt with these settings.
    """
    try:
        ids = prompt_ids(tokenizer, model, content)
    except ModelError as error:
        prompt_ids(tokenizer, model, PROBE)  # raises unless it is this prompt that the template refuses
        raise PromptError(REFUSED) from error
    if not ids:
        raise PromptError(EMPTY)
    # Its text names a special token without weights, e.g. <image_soft_token> of a Gemma 3 without vision.
    if max(ids) >= vocabulary_rows(model):
        raise PromptError(UNKNOWN_TOKEN)
    return ids


def check_conversations(model: ModelConfig, examples: Sequence[tuple[str, Prompt]], *, skip: bool) -> None:
    """Check that a model can be given conversations of some forms, before anything starts.

    Args:
        model: Model settings.
        examples: One (file and line, prompt) for every form of prompt (`PromptSet.examples`).
        skip: Whether to leave forms that it cannot be given to the rollouts, which skip and count such prompts, as long
            as there are others.

    Raises:
        PromptFileError: The model cannot be given conversations of a form; the message names the first one, and what
            the chat template says.
        ModelError: The model cannot be loaded.
    """
    tokenizer = load_tokenizer(model)
    refusals = [
        f"{place}: prompt {prompt.id!r} ({roles_of(prompt.conversation)}) cannot be asked: {refusal}"
        for place, prompt in examples
        if prompt.conversation is not None and (refusal := _refusal(tokenizer, model, prompt.conversation))
    ]
    if refusals and not (skip and len(refusals) < len(examples)):
        raise PromptFileError(refusals[0] + "; change such prompts, or skip and count them with data.skip_bad=true")


def roles_of(conversation: Conversation) -> str:
    """Return the roles of a conversation in their order, e.g. "system, user, assistant, user"."""
    return ", ".join(message["role"] for message in conversation.messages)


def _refusal(tokenizer: Any, model: ModelConfig, conversation: Conversation) -> str:
    """Return why a model cannot be given conversations of this form; empty if it can."""
    probe = replace(conversation, messages=tuple(probes_of(conversation.messages)))
    try:
        prompt_ids(tokenizer, model, probe)
    except PromptError as error:
        return str(error)
    except ModelError as error:
        return f"its chat template says: {first_line(error.__cause__ or error)}"
    return ""


def encode_prompts(
    tokenizer: Any, model: ModelConfig, max_context: int, prompts: Iterable[Prompt]
) -> tuple[list[EncodedPrompt], list[PromptResult]]:
    """Return prompts as tokens, and the results of those that cannot be answered, with the reason.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings.
        max_context: Maximum length of prompt and answer together, in tokens.
        prompts: Prompts in any order.

    Raises:
        ModelError: See `encode_prompt`.
    """
    encoded: list[EncodedPrompt] = []
    skipped: list[PromptResult] = []
    for prompt in prompts:
        try:
            ids = encode_prompt(tokenizer, model, prompt.content)
            if len(ids) >= max_context:
                raise PromptError(TOO_LONG)
        except PromptError as error:
            skipped.append(PromptResult(prompt_index=prompt.index, outcome=Outcome.SKIPPED, reason=str(error)))
        else:
            encoded.append((prompt, tuple(ids)))
    return encoded, skipped


def uses_chat_template(tokenizer: Any, model: ModelConfig) -> bool:
    """Return whether prompts are put into the tokenizer's chat template."""
    return model.prompt_template is None and tokenizer.chat_template is not None


def plain_text(model: ModelConfig, text: str) -> str:
    """Return a prompt in the template of the settings; the text itself if they have none."""
    before, _, after = (model.prompt_template or PROMPT).partition(PROMPT)
    return before + text + after


def conversation_text(tokenizer: Any, model: ModelConfig, messages: Sequence[Message], **options: Any) -> str:
    """Return a conversation as one text that, without further special tokens, has the tokens of `prompt_ids`.

    In `model.prompt_template` it is one text, too: the user's messages in that template, all others as they are.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings.
        messages: The conversation; contents are texts.
        options: See `chat_text`.

    Raises:
        PromptError, ModelError: See `prompt_ids`.
    """
    with _template_errors(model):
        if uses_chat_template(tokenizer, model):
            return chat_text(tokenizer, model, messages, **options)
        text = "".join(
            plain_text(model, message["content"]) if message["role"] == "user" else message["content"]
            for message in messages
        )
        prepended, _ = _prepended_and_own(tokenizer, text)
        return str(tokenizer.decode(prepended)) + text


def _messages(model: ModelConfig, content: str | Conversation) -> list[Message]:
    """Return the messages of a prompt, with the system prompt of the settings unless they have one of their own."""
    messages: list[Message] = [{"role": "user", "content": content}] if isinstance(content, str) else content.turns
    if not model.system_prompt or messages[0]["role"] in SYSTEM_ROLES:
        return messages
    return [{"role": "system", "content": model.system_prompt}, *messages]


def _only_text(model: ModelConfig, content: str | Conversation) -> str:
    """Return the text of a prompt that is one text, or one message of the user.

    Raises:
        PromptError: It is more than that.
    """
    if isinstance(content, str):
        return content
    (message, *others) = content.turns
    if others or content.tools:
        raise PromptError(NO_TEMPLATE if model.prompt_template is None else ONE_TEXT)
    return text_of(message)


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text that is to be continued.

    They begin with the tokens that the tokenizer prepends to every text, e.g. `<bos>`, unless the text has them. They
    do not end with those that it appends, e.g. an end-of-text token: the model would be asked to go beyond the end.
    """
    prepended, own = _prepended_and_own(tokenizer, text)
    return prepended + own


def _prepended_and_own(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    encoded = tokenizer(text, return_special_tokens_mask=True)
    tokens = list(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
    prepended = [token for token, _ in takewhile(lambda token: token[1], tokens)]
    own = [token for token, is_added in tokens if not is_added]
    return ([] if own[: len(prepended)] == prepended else prepended), own


def _template_errors(model: ModelConfig) -> Any:
    return model_errors(
        f"model {model.path!r}: its chat template or tokenizer cannot encode a prompt",
        "; change model.system_prompt or model.chat_template_kwargs, or repair the file",
    )
