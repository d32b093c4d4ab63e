"""Tokenizers of all layouts are loaded as fast ones, and those that do not fit the weights are refused."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from tests.vocabularies import TEXTS, byte_level, sentence_piece
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError
from tlpo_ray.flow.tokenizer import check_vocabulary, end_of_text_ids, load_tokenizer, vocabulary_rows

mistral_common = pytest.importorskip("mistral_common")
TEKKEN = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
MINISTRAL = {"model_type": "mistral", "vocab_size": 131_072, "transformers_version": "4.46.0"}
"""Configuration of a model from before transformers 5, for whose tokenizers that has a special case."""


def folder_with(folder: Path, config: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def loaded(folder: Path) -> Any:
    return load_tokenizer(ModelConfig(path=str(folder)))


def error_of(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        loaded(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def tekken_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with Mistral's own tokenizer file."""
    folder = folder_with(tmp_path_factory.mktemp("tekken"), MINISTRAL)
    shutil.copy(TEKKEN, folder / "tekken.json")
    return folder


@pytest.fixture(scope="module")
def tekken_beside(tekken_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with that file beside a tokenizer.json that splits texts otherwise, as some of Mistral's do."""
    folder = folder_with(tmp_path_factory.mktemp("both"), MINISTRAL)
    loaded(tekken_alone).save_pretrained(folder)
    shutil.copy(TEKKEN, folder / "tekken.json")
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    state["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\p{N}{1,3}|\s*\S+|\s+"}
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tekken_alone", "tekken_beside"])
def test_mistrals_vocabulary_is_a_fast_tokenizer_with_the_ids_of_mistral_common(
    layout: str, request: pytest.FixtureRequest
) -> None:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    folder = request.getfixturevalue(layout)
    warned: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(listener)
    try:
        tokenizer = loaded(folder)
    finally:
        logging.getLogger("transformers").removeHandler(listener)
    assert warned == []
    assert tokenizer.is_fast
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    published = Tekkenizer.from_file(TEKKEN)
    for text in (*TEXTS, "I've got 12345 things,\r\n\r\n  don't you?", "𠮷野家で🙂"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == published.encode(text, bos=False, eos=False)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "안녕?"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<s>[INST]안녕?[/INST]"


def test_tekken_alone_needs_mistral_common(tekken_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tekken_alone, tmp_path / "model")
    monkeypatch.setitem(sys.modules, "mistral_common", None)  # as if it were not installed
    assert "has tekken.json and no tokenizer.json: install mistral-common" in error_of(tmp_path / "model")


@pytest.mark.parametrize(
    "model_type", ["qwen3", "qwen2", "gemma3_text", "gemma2", "llama", "mistral", "gpt_oss", "cohere"]
)
def test_a_folder_without_tokenizer_files_is_refused(model_type: str, tmp_path: Path) -> None:
    """For some types of models, transformers makes a vocabulary of a few special tokens."""
    message = error_of(folder_with(tmp_path / "model", {"model_type": model_type}))
    assert "no tokenizer found" in message or "which cannot spell every text" in message


def test_a_vocabulary_that_lost_its_tokens_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "model", {"model_type": "llama"})
    byte_level().save_pretrained(folder)
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    state["model"]["vocab"] = {token: index for token, index in state["model"]["vocab"].items() if index < 100}
    state["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    assert "its tokenizer has a vocabulary of 100 tokens, which cannot spell every text" in error_of(folder)


def with_added(tokenizer: Any, *tokens: str, **names: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{"eos_token": "<|end|>", **names})


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_added_tokens_beyond_the_rows_are_accepted_unless_prompts_or_answers_contain_them(make: Any) -> None:
    rows, model = len(make()), ModelConfig(path="model")
    tokenizer = with_added(make(), "<image_soft_token>", "<video_soft_token>")
    assert len(tokenizer) == rows + 2
    check_vocabulary(tokenizer, model, rows, probe=[0, rows - 1])
    message = rf"model 'model': prompts or answers contain '<image_soft_token>', token {rows}"
    with pytest.raises(ModelError, match=message):
        check_vocabulary(tokenizer, model, rows, probe=[0, rows])
    for name in ("bos_token", "eos_token"):
        with pytest.raises(ModelError, match=message):
            check_vocabulary(with_added(tokenizer, **{name: "<image_soft_token>"}), model, rows, probe=[])


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_a_vocabulary_larger_than_the_weights_belongs_to_another_model(make: Any) -> None:
    tokenizer, model = make(), ModelConfig(path="model")
    rows = len(tokenizer)
    check_vocabulary(tokenizer, model, rows, probe=[])
    check_vocabulary(tokenizer, model, rows + 64, probe=[])
    with pytest.raises(ModelError, match="they belong to different models"):
        check_vocabulary(tokenizer, model, rows - 1, probe=[])


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ([300, 301], None, {0, 300, 301}),
        (300, 301, {0, 300}),
        (None, 301, {0, 301}),
        (None, None, {0}),
        ([0, 399, 400], None, {0, 399}),
    ],
)
def test_end_of_text_tokens_are_those_of_the_configuration_and_of_the_tokenizer(
    generation: int | list[int] | None, config: int | None, expected: set[int], tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, {"model_type": "llama", "vocab_size": 400, "eos_token_id": config})
    byte_level(size=400).save_pretrained(folder)  # its <|end|> is token 0
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}), encoding="utf-8")
    model = ModelConfig(path=str(folder))
    assert vocabulary_rows(model) == 400
    assert end_of_text_ids(model) == expected
