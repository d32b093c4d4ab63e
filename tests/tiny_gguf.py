"""A tiny model as a package index carries published ones: a GGUF file in two wheels, written here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np

from tlpo_ray.quickstart.real_models import RealModel
from tlpo_ray.quickstart.wheels import Wheel

HIDDEN, HEADS, KV_HEADS, LAYERS, FEED_FORWARD = 64, 4, 2, 2, 96
Weights = dict[str, np.ndarray]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("Ċ", "Ċ"), ("Ġ", "a"), ("a", "b")]


def byte_tokens() -> list[str]:
    """Return the 256 characters by which byte-level vocabularies write bytes."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def write_gguf(file: Path, *, pre: str = "smollm") -> Weights:
    """Write a tiny random Llama as llama.cpp does, with 8-bit matrices; returns its weights by their names in a folder.

    The weights are those that the file holds, i.e. after rounding to 8 bits.
    """
    tokens = [*SPECIAL, *byte_tokens(), *(a + b for a, b in MERGES)]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(1024)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges([f"{a} {b}" for a, b in MERGES])
    for add, token in ((writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_unk_token_id, 0)):
        add(token)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    weights = write_weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def write_weights(writer: gguf.GGUFWriter, vocabulary: int) -> Weights:
    random = np.random.default_rng(0)
    narrow = HIDDEN // HEADS * KV_HEADS
    layer = {
        "attn_q": ("self_attn.q_proj", (HIDDEN, HIDDEN)), "attn_k": ("self_attn.k_proj", (narrow, HIDDEN)),
        "attn_v": ("self_attn.v_proj", (narrow, HIDDEN)), "attn_output": ("self_attn.o_proj", (HIDDEN, HIDDEN)),
        "ffn_gate": ("mlp.gate_proj", (FEED_FORWARD, HIDDEN)), "ffn_up": ("mlp.up_proj", (FEED_FORWARD, HIDDEN)),
        "ffn_down": ("mlp.down_proj", (HIDDEN, FEED_FORWARD)), "attn_norm": ("input_layernorm", (HIDDEN,)),
        "ffn_norm": ("post_attention_layernorm", (HIDDEN,)),
    }  # fmt: skip
    named = {
        f"blk.{number}.{name}": (f"model.layers.{number}.{ours}", shape)
        for number in range(LAYERS)
        for name, (ours, shape) in layer.items()
    }
    named |= {"token_embd": ("model.embed_tokens", (vocabulary, HIDDEN)), "output_norm": ("model.norm", (HIDDEN,))}
    weights: Weights = {}
    for name, (ours, shape) in named.items():
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
            weights[f"{ours}.weight"] = values
            continue
        quantised = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        weights[f"{ours}.weight"] = gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType.Q8_0)
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.rpartition(".")[2])
        if heads is not None:  # llama.cpp has another order of the rows for the rotary embedding
            rows = quantised.reshape(heads, 2, shape[0] // heads // 2, quantised.shape[-1])
            quantised = rows.swapaxes(1, 2).reshape(quantised.shape)
        writer.add_tensor(f"{name}.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    return weights


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """Write the wheel of a package, version 1.0, that contains some files; returns its checksum."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in files))
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def write_index(folder: Path, name: str, content: bytes) -> RealModel:
    """Write two wheels that contain one half of a GGUF file each into an empty folder; returns the model's pins."""
    half = len(content) // 2
    wheels = []
    for number, part in enumerate((content[:half], content[half:])):
        package, files = f"tiny-model-part{number}", {f"tiny/part{number}": part, "tiny/TERMS": b"anything goes"}
        wheels.append(
            Wheel(
                name=package, version="1.0", sha256=write_wheel(folder, package, files), parts=(f"tiny/part{number}",),
                terms=() if number else ("tiny/TERMS",),
            )
        )  # fmt: skip
    return RealModel(
        name=name, title="Tiny", wheels=tuple(wheels), sha256=hashlib.sha256(content).hexdigest(), megabytes=1,
        terms="anything goes",
    )  # fmt: skip
