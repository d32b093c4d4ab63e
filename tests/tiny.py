"""A tiny real model for tests: random Qwen3 weights and a byte-level BPE tokenizer, built in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tlpo_ray.flow.records import CandidateGroup

VOCABULARY = 400
"""256 bytes, a few special tokens, and merges learned from `TEXT`."""
CANDIDATES = 16
TEXT = [
    "일본의 통화는 무엇입니까? 일본의 통화는 엔입니다.",
    "태국의 통화는 무엇입니까? 태국의 통화는 바트입니다.",
    "日本の通貨は何ですか。日本の通貨は円です。",
    "泰国的货币是什么？泰国的货币是泰铢。",
    "ما هي عملة اليابان؟ عملة اليابان هي الين.",
    "Гривня є валютою України. The currency of Japan is the yen.",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(folder: Path, *, tied: bool = True, seed: int = 0) -> Path:
    """Write a Qwen3 model with 2 layers, hidden size 64 and random float32 weights, and return its folder."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer(folder)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM has a CPU kernel for
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        # Large enough that contexts matter and candidate sets are far from uniform.
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """Write a byte-level BPE tokenizer with a chat template, and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def random_groups(folder: Path, count: int, *, seed: int = 0, prompt_index: int = 0) -> list[CandidateGroup]:
    """Return informative candidate groups as a rollout actor would make them, but with random contexts and rewards.

    π_old is the model's own; contexts have 3 to 24 tokens.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    random = np.random.default_rng(seed)
    groups: list[CandidateGroup] = []
    for index in range(prompt_index, prompt_index + count):
        context = random.integers(VOCABULARY, size=random.integers(3, 25)).astype(np.int32)
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(context).long()[None]).logits[0, -1]
        top = logits.log_softmax(-1).topk(CANDIDATES)
        rewards = np.ones(CANDIDATES, np.float32)
        rewards[random.permutation(CANDIDATES)[: random.integers(1, CANDIDATES)]] = -1
        groups.append(
            CandidateGroup(
                prompt_index=index,
                prompt_id=f"p{index}",
                language="ko",
                context_ids=context,
                prompt_length=2,
                candidate_ids=top.indices.numpy().astype(np.int32),
                old_logp=top.values.numpy(),
                rewards=rewards,
                sampling_version=0,
                detector_version="1",
                response="엔입니다 гривня",
                span_start=5,
                span_end=11,
                span_kind="Cyrillic",
                lookaheads=("",) * CANDIDATES,
            )
        )
    return groups
