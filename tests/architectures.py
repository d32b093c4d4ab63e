"""Tiny random models of the architectures in `docs/real-models.md`, with a tokenizer of each one's kind."""

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
EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
"""What a mixture of 4 experts, each of which sees about half of the tokens, calls its sizes."""
STATES = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_num_key_heads": 1, "linear_num_value_heads": 2,
}  # fmt: skip
LATENT = {
    # The sizes of the cache are the published ones, the only ones for which vLLM has a kernel.
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 32, "v_head_dim": 32, "num_key_value_heads": 4,
    "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
}  # fmt: skip
TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
TURNS = (
    "{{% for message in messages %}}{begin}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{end}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{begin}assistant\n{{% endif %}}"
)
END = "<|end|>"


def make_model(name: str, folder: Path) -> Path:
    """Write a model folder of a kind of `MAKERS`; the folder."""
    tokenizer = (sentence_piece if name.startswith("gemma") else byte_level)()
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
        for constant, buffer in model.named_buffers():  # not what transformers would take if they were lost
            if constant.endswith(("layer_scalar", "e_score_correction_bias")):
                buffer.copy_(0.5 + 0.2 * torch.rand_like(buffer))
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


def _qwen3_moe(size: dict[str, Any]) -> Any:
    """Qwen3-30B-A3B: experts alone in every layer."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**size, **EXPERTS, num_experts=4, norm_topk_prob=True))


def _gpt_oss(size: dict[str, Any]) -> Any:
    """gpt-oss without its quantization: attention with sinks, experts with biases."""
    from transformers import GptOssConfig, GptOssForCausalLM

    rope = {
        "rope_type": "yarn", "rope_theta": 150_000.0, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "truncate": False, "original_max_position_embeddings": 128,
    }  # fmt: skip
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64}
    return GptOssForCausalLM(GptOssConfig(**(size | experts), sliding_window=16, rope_parameters=rope))


def _qwen3_next(size: dict[str, Any]) -> Any:
    """Qwen3-Next-80B-A3B: a recurrent state in most layers, experts in all."""
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    experts = {**EXPERTS, "shared_expert_intermediate_size": 32, "num_experts": 4}
    return Qwen3NextForCausalLM(Qwen3NextConfig(**size, **STATES, **experts))


def _qwen3_5(size: dict[str, Any]) -> Any:
    """The language part of Qwen3.5 alone."""
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**size, **STATES))


def _qwen3_5_images(size: dict[str, Any]) -> Any:
    """Qwen3.5 as it is published: a model of text and images, of which transformers loads the language part."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    vision = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
        "num_position_embeddings": 16, "patch_size": 4,
    }  # fmt: skip
    config = Qwen3_5Config(text_config=size | STATES, vision_config=vision, eos_token_id=size["eos_token_id"])
    config.dtype = "float32"
    return Qwen3_5ForConditionalGeneration(config)


def _gemma4_text(size: dict[str, Any]) -> dict[str, Any]:
    """Gemma 4 E2B: embeddings of every layer, keys and values that layers share, two sizes of heads."""
    layers = {"num_hidden_layers": 4, "layer_types": 2 * TWO_KINDS["layer_types"], "sliding_window": 16}  # type: ignore[operator]
    per_layer = {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": size["vocab_size"]}
    shared = {"num_kv_shared_layers": 2, "use_double_wide_mlp": True}
    return {**size, **layers, **per_layer, **shared, "global_head_dim": 64, "final_logit_softcapping": 30.0}


def _gemma4(size: dict[str, Any]) -> Any:
    """The language part of Gemma 4 alone."""
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    return Gemma4ForCausalLM(Gemma4TextConfig(**_gemma4_text(size)))


def _gemma4_moe(size: dict[str, Any]) -> Any:
    """The language part of Gemma 4 26B-A4B: experts beside a dense part, keys that are also the values."""
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
    heads = {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "global_head_dim": 64}
    config = Gemma4TextConfig(**size, **TWO_KINDS, **experts, **heads, hidden_size_per_layer_input=0)
    return Gemma4ForCausalLM(config)


def _gemma4_images(size: dict[str, Any]) -> Any:
    """Gemma 4 as it is published: a model of text and images."""
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "position_embedding_size": 64,
    }  # fmt: skip
    text, end = _gemma4_text(size), size["eos_token_id"]
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=None, eos_token_id=end)
    config.dtype = "float32"
    return Gemma4ForConditionalGeneration(config)


def _deepseek_v2(size: dict[str, Any]) -> Any:
    """DeepSeek-V2-Lite: latent attention, experts and a shared one."""
    from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

    groups = {"topk_method": "greedy", "n_group": 1, "topk_group": 1, "q_lora_rank": None}
    return DeepseekV2ForCausalLM(DeepseekV2Config(**_without_head_dim(size | LATENT), **EXPERTS, **groups))


def _deepseek_v3(size: dict[str, Any]) -> Any:
    """DeepSeek-V3: latent attention, groups of experts that a constant balances."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    groups = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "n_group": 2, "topk_group": 1, "q_lora_rank": 32}
    config = DeepseekV3Config(**_without_head_dim(size | LATENT), **EXPERTS, **groups, num_mtp_layers=0)
    return DeepseekV3ForCausalLM(config)


def _lfm2(size: dict[str, Any]) -> Any:
    """LFM2: short convolutions between layers of attention."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    # What vLLM reads and transformers does not; published configurations have it.
    blocks = {
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_auto_adjust_ff_dim": False,
        "conv_dim": 64,
        "conv_bias": False,
    }
    layers = {"layer_types": ["conv", "full_attention"], **blocks}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return Lfm2ForCausalLM(Lfm2Config(**_without_head_dim(size | heads), **layers))


def _without_head_dim(size: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in size.items() if name != "head_dim"}


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "ministral": _ministral,
    "gemma3": _gemma3,
    "gemma3-images": _gemma3_images,
    "gemma4": _gemma4,
    "gemma4-moe": _gemma4_moe,
    "gemma4-images": _gemma4_images,
    "qwen3-moe": _qwen3_moe,
    "qwen3-next": _qwen3_next,
    "qwen3.5": _qwen3_5,
    "qwen3.5-images": _qwen3_5_images,
    "gpt-oss": _gpt_oss,
    "deepseek-v2": _deepseek_v2,
    "deepseek-v3": _deepseek_v3,
    "lfm2": _lfm2,
}
