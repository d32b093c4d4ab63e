"""lm-eval's models, made to present prompts and to sample as rollouts do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.chat import conversation_text
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.evaluation.sampling import on_gpu
from tlpo_ray.flow.conversation import Message
from tlpo_ray.flow.tokenizer import end_of_text_ids, load_tokenizer

Json = dict[str, Any]
MODEL_TYPES = {"vllm": "vllm", "transformers": "hf"}
"""Our name of an engine and lm-eval's, for the engines that lm-eval has."""
HF_BATCH_SIZE = 8
"""Sequences that transformers runs at once."""


def model_arguments(model: ModelConfig, engine: RolloutEngine, seed: int) -> Json:
    """Return the arguments of lm-eval's model.

    Args:
        model: The model, with its context.
        engine: `vllm` or `transformers`.
        seed: Seed of vLLM.
    """
    arguments: Json = {
        "pretrained": model.path,
        "dtype": model.dtype,
        "trust_remote_code": model.trust_remote_code,
    }
    if engine == "vllm":
        # Of the model's generation_config vLLM then takes the end-of-text tokens only.
        return arguments | {"max_model_len": model.max_context, "seed": seed, "generation_config": "vllm"}
    return arguments | {"max_length": model.max_context, "device": "cuda" if on_gpu() else "cpu"}


def language_model(model: ModelConfig, engine: RolloutEngine, arguments: Json) -> Any:
    """Return lm-eval's model, made to present prompts and to sample as rollouts do.

    Args:
        model: The model, with its template, its date and its stop strings.
        engine: `vllm` or `transformers`.
        arguments: See `model_arguments`.

    Raises:
        UserError: lm-eval cannot load the model.
    """
    from lm_eval.api.registry import get_model

    batch_size = "auto" if engine == "vllm" else HF_BATCH_SIZE
    try:
        made = get_model(MODEL_TYPES[engine]).create_from_arg_obj(arguments, {"batch_size": batch_size})
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(f"lm-eval cannot load {model.path}: {first_line(error)}") from error
    tokenizer = load_tokenizer(model)

    def apply_chat_template(messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        return conversation_text(tokenizer, model, messages, **options)

    made.apply_chat_template = apply_chat_template
    if engine != "vllm":
        made.model.generation_config = _plain_generation(model)
    return made


def _plain_generation(model: ModelConfig) -> Any:
    """Return a generation configuration of transformers that says where an answer ends, and nothing else.

    The model's own applies to whatever lm-eval does not set: penalties, forbidden and forced tokens, limits of length,
    beams and cuts of the distribution, also under greedy decoding. Rollouts and our suites use none of them. Without
    any, transformers samples among the 50 most probable tokens, hence `top_k`.
    """
    from transformers import GenerationConfig

    return GenerationConfig(eos_token_id=sorted(end_of_text_ids(model)) or None, top_k=0)
