"""Tiny random models of the architectures that the paper repairs, with a tokenizer of each one's kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.vocabularies import byte_level, sentence_piece

SIZE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
    # Large enough that contexts matter and candidate sets are far from uniform.
    "initializer_range": 0.2,
}  # fmt: skip
TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
TURNS = (
    "{{% for message in messages %}}{begin}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{end}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{begin}assistant\n{{% endif %}}"
)
END = "<|end|>"


def make_model(name: str, folder: Path) -> Path:
    """Write a model folder of a kind of `MAKERS`; the folder."""
    tokenizer = (sentence_piece if name.startswith("gemma3") else byte_level)()
    tokenizer.chat_template = TURNS.format(begin="", end=END)
    tokenizer.save_pretrained(folder)
    save_weights(name, folder, rows=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    return folder


def save_weights(
    name: str, folder: Path, *, rows: int, eos: int | list[int], pad: int | None, bos: int | None = None, **save: Any
) -> None:
    """Write random weights of a kind of `MAKERS` and their configuration into a folder.

    Args:
        name: The kind.
        folder: Folder for the model.
        rows: Rows of the embedding.
        eos: Token or tokens that end an answer.
        pad: Padding token.
        bos: Token that begins a text.
        save: Further arguments of `save_pretrained`.
    """
    special = {"eos_token_id": eos, "pad_token_id": pad, "bos_token_id": bos}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAKERS[name]({**SIZE, **special, "vocab_size": rows, "dtype": "float32"})
    model.save_pretrained(folder, **save)


def _llama(size: dict[str, Any]) -> Any:
    """Llama 3.1: its scaled rotary embedding, an own head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**size, rope_parameters=rope, tie_word_embeddings=False))


def _qwen3(size: dict[str, Any]) -> Any:
    """Qwen3-8B: norms of queries and keys, an own head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**size, tie_word_embeddings=False))


def _ministral(size: dict[str, Any]) -> Any:
    """Ministral-8B: Mistral with a sliding window."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**size, sliding_window=16, tie_word_embeddings=False))


def _gemma3(size: dict[str, Any]) -> Any:
    """Gemma 3 of text: tied embeddings, two kinds of attention."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(Gemma3TextConfig(**size, **TWO_KINDS))


def _gemma3_images(size: dict[str, Any]) -> Any:
    """Gemma-3-4B as it is published: a model of text and images, of which text is used."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = size | TWO_KINDS
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=size["eos_token_id"]
    )
    config.dtype = "float32"
    return Gemma3ForConditionalGeneration(config)


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "ministral": _ministral,
    "gemma3": _gemma3,
    "gemma3-images": _gemma3_images,
}
