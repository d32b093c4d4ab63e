"""Real fast tokenizers of all supported kinds, built here without a download."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = (
    "일본의 통화는 엔입니다. 대한민국의 수도는 서울특별시이며 인구가 많습니다.",
    "日本の通貨は円です。東京は世界で最も人口の多い都市の一つです。",
    "中国的货币是人民币。北京是中华人民共和国的首都，历史悠久。",
    "عملة مصر هي الجنيه المصري. القاهرة عاصمة جمهورية مصر العربية.",
    "Валюта України це гривня. The currency of Japan is the yen.",
)
"""Four target languages and two that answers slip into: enough text for merges of several characters in each."""

SPECIAL = ["<|end|>", "<|pad|>"]


@cache
def byte_level(size: int = 600) -> Any:
    """Return a byte-level BPE tokenizer (Qwen, Llama 3, Tekken): tokens may end inside a character or span several."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _fast(_trained(tokenizer, size, alphabet))


@cache
def sentence_piece(size: int = 500) -> Any:
    """Return a SentencePiece-like tokenizer (Gemma, Llama 2): unknown characters become single-byte tokens."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    return _fast(_trained(tokenizer, size, ["▁"], ["<unk>", *SPECIAL, *bytes_], keep_special=3))


def mistral(folder: Path) -> Any:
    """Return a published SentencePiece vocabulary of 32,000 tokens, which the package mistral_common contains."""
    import mistral_common
    from transformers import AutoTokenizer

    source = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    shutil.copy(source, folder / "tokenizer.model")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return AutoTokenizer.from_pretrained(folder)


def _trained(
    tokenizer: Tokenizer, size: int, alphabet: list[str], special: list[str] | None = None, keep_special: int = 2
) -> Tokenizer:
    special = special or SPECIAL
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, limit_alphabet=256
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    if keep_special == len(special):
        return tokenizer
    # Byte tokens are ordinary entries of a vocabulary, but the trainer only accepts them as special: demote them.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:keep_special]
    return Tokenizer.from_str(json.dumps(state))


def _fast(tokenizer: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0], pad_token=SPECIAL[1])
