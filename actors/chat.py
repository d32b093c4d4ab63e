"""From the text of a prompt to the policy's input tokens, and the check of a model before anything starts."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from tlpo_ray.config.model import PROMPT, LoraConfig, ModelConfig
from tlpo_ray.errors import ModelError, PromptError
from tlpo_ray.flow.lora import check_targets
from tlpo_ray.flow.models import check_not_quantized, model_errors
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult
from tlpo_ray.flow.tokenizer import check_vocabulary, load_tokenizer, vocabulary_rows

Message = Mapping[str, Any]
"""One message of a conversation, with its `role` and `content`."""
EncodedPrompt = tuple[Prompt, tuple[int, ...]]
"""A prompt and its tokens."""
TOO_LONG = "longer than the context"
EMPTY = "has no tokens"
REFUSED = "its chat template refuses the prompt"
UNKNOWN_TOKEN = "has a token that the model's weights lack"
"""Reasons of a skipped prompt, as `result.json` has them."""
PROBE = "\n\n".join(
    10 * [5 * 'Says  she: "It\'s <b>A</b> & {prompt} \\ 100 %…"\tМосква 서울, 東京、北京。 القاهرة; दिल्ली? 🙂 ']
)
"""Prompt by which a chat template is tested: what templates change (capitals, line breaks, runs of spaces, quotation
marks, markup, letters of any script), and more of it than templates that truncate would leave."""
PARTS = (("user", "assistant"), ("system", "user", "assistant"))
"""Roles whose contents are passed as lists of parts, in the order in which that is tried."""
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


def prompt_ids(tokenizer: Any, model: ModelConfig, text: str) -> list[int]:
    """Return the tokens of a prompt up to the point where the answer begins.

    The prompt is put into `model.prompt_template` if there is one, else into the tokenizer's chat template, with the
    system prompt, the template arguments and the date of the settings. Without either, it is the text itself.

    Args:
        tokenizer: As `load_tokenizer` returns it.
        model: Model settings.
        text: Text of the prompt.

    Raises:
        PromptError: The chat template drops or changes this prompt or the system prompt.
        ModelError: Template or tokenizer is broken, or the template does not accept these settings.
    """
    with _template_errors(model):
        if uses_chat_template(tokenizer, model):
            rendered = chat_text(tokenizer, model, _messages(model, text))
            return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
        if model.system_prompt:
            raise ModelError(
                f"model {model.path!r} has no chat template, so model.system_prompt has no effect: put it into "
                f"model.prompt_template, or set model.system_prompt=null"
            )
        return _plain_ids(tokenizer, plain_text(model, text))


def encode_prompt(tokenizer: Any, model: ModelConfig, text: str) -> list[int]:
    """Return `prompt_ids` of a prompt that the model can be given.

    Raises:
        PromptError: It cannot be given this prompt; the message says why, without its text.
        ModelError: It cannot be given any prompt with these settings.
    """
    try:
        ids = prompt_ids(tokenizer, model, text)
    except ModelError as error:
        prompt_ids(tokenizer, model, PROBE)  # raises unless it is this prompt alone that the template refuses
        raise PromptError(REFUSED) from error
    if not ids:
        raise PromptError(EMPTY)
    # Its text names a special token without weights, e.g. <image_soft_token> of a Gemma 3 without vision.
    if max(ids) >= vocabulary_rows(model):
        raise PromptError(UNKNOWN_TOKEN)
    return ids


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
            ids = encode_prompt(tokenizer, model, prompt.text)
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


def chat_text(tokenizer: Any, model: ModelConfig, messages: Sequence[Message], **options: Any) -> str:
    """Return a conversation in the tokenizer's chat template.

    Contents are texts. If the template drops or refuses them, they are passed as lists of parts, which templates of
    models of text and images may expect; provided that the template keeps them in that form.

    Args:
        tokenizer: A tokenizer with a chat template.
        model: Model settings, for the template arguments and the date.
        messages: The conversation; contents are texts.
        options: Arguments of transformers' `apply_chat_template`; by default, the answer is what comes next.

    Raises:
        PromptError: The template drops or changes a message that is not the assistant's.
        Exception: Whatever the template raises.
    """
    arguments = {"add_generation_prompt": True, **_date(model), **model.chat_template_kwargs, **options}

    def render(messages: Sequence[Message], roles: Sequence[str] = ()) -> str:
        parts = [_in_parts(message) if message["role"] in roles else dict(message) for message in messages]
        rendered: str = tokenizer.apply_chat_template(parts, tokenize=False, **arguments)
        for message in messages:
            # Without white space at its ends, which many templates remove.
            if message["role"] != "assistant" and message["content"].strip() not in rendered:
                dropped = "model.system_prompt" if message["role"] == "system" else "the prompt"
                raise PromptError(f"its chat template drops or changes {dropped}")
        return rendered

    try:
        return render(messages)
    except Exception as error:  # templates raise nearly every kind of exception about a content of another type
        probes = [{**message, "content": PROBE} for message in messages]
        for roles in PARTS:
            try:
                # The probe shows that the parts are read: some templates print the list itself, with the text in it.
                render(probes, roles)
                return render(messages, roles)
            except Exception:
                continue
        raise error


def _messages(model: ModelConfig, text: str) -> list[Message]:
    system = [{"role": "system", "content": model.system_prompt}] if model.system_prompt else []
    return [*system, {"role": "user", "content": text}]


def _in_parts(message: Message) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _date(model: ModelConfig) -> dict[str, Any]:
    """Return the variables by which chat templates ask for the date; none leaves them to transformers and templates."""
    if model.date is None:
        return {}
    midnight = datetime.datetime.combine(model.date, datetime.time.min)
    # The first replaces the clock that transformers gives to templates; the second is what Llama 3 is given.
    return {"strftime_now": midnight.strftime, "date_string": midnight.strftime("%d %b %Y")}


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
