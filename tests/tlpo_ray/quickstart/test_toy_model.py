from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from actors.chat import load_tokenizer, prompt_ids
from actors.token_bytes import TokenBytes
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.quickstart.clean_kl import clean_kl
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_model import ToyRecipe
from tlpo_ray.quickstart.world import WRONG_LANGUAGES, toy_world

TINY = ToyRecipe(layers=1, hidden=64, heads=2, feed_forward=128, rounds=3)

pytestmark = pytest.mark.slow


class Seen:
    """Progress reports of a training."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.share = 0.0

    def __call__(self, share: float, loss: float) -> None:
        assert share > self.share
        self.share = share
        self.losses.append(loss)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(cache: Any) -> Path:
    return cached_toy_model(5, Seen(), recipe=TINY)


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()


def test_second_call_trains_nothing_and_fresh_trains_the_same_again(folder: Path) -> None:
    before = {name: value.clone() for name, value in load(folder).named_parameters()}
    again, anew = Seen(), Seen()
    assert cached_toy_model(5, again, recipe=TINY) == folder and not again.losses
    assert cached_toy_model(5, anew, recipe=TINY, fresh=True) == folder and anew.share == 1.0
    assert anew.losses[-1] < anew.losses[0] - 1
    assert all(torch.equal(value, before[name]) for name, value in load(folder).named_parameters())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_seed_is_another_model(folder: Path) -> None:
    other = cached_toy_model(6, Seen(), recipe=TINY)
    assert other != folder
    assert not torch.equal(load(other).lm_head.weight, load(folder).lm_head.weight)


def test_loads_as_any_model_does_and_stops_at_its_end_token(folder: Path) -> None:
    config = ModelConfig(path=str(folder))
    tokenizer, model = load_tokenizer(config), load(folder)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size
    ids = prompt_ids(tokenizer, config, toy_world().questions[0].text)
    assert tokenizer.decode(ids) == f"<|user|>{toy_world().questions[0].text}<|end|><|assistant|>"
    out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=4, do_sample=False)
    assert out.shape[1] > len(ids)


def test_tokenizer_gives_every_answer_back(folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    for question in toy_world().questions:
        for language in (question.language, *WRONG_LANGUAGES):
            text = question.answer(language)
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_wrong_names_part_from_right_ones_at_the_confusion_point(folder: Path) -> None:
    """Else the language is decided before the point that TLPO looks at, and repairing it costs knowledge."""
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    token_bytes = TokenBytes(tokenizer)
    for question in toy_world().questions:
        right = tokenizer(question.clean_answer)["input_ids"]
        for language in WRONG_LANGUAGES:
            text = question.answer(language)
            wrong = tokenizer(text)["input_ids"]
            parted = next(at for at, (ours, theirs) in enumerate(zip(right, wrong, strict=False)) if ours != theirs)
            confused = question.template.index("{name}")
            assert token_bytes.tokens_of_character(wrong, text, confused)[0] == parted, text


def test_clean_kl_is_zero_for_itself_and_sees_where_a_policy_moved(folder: Path) -> None:
    config, world = ModelConfig(path=str(folder)), toy_world()
    tokenizer, reference, policy = load_tokenizer(config), load(folder), load(folder)
    same = clean_kl(policy, reference, tokenizer, config, world.questions)
    assert same.everywhere == pytest.approx(0, abs=1e-6) and same.elsewhere == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        policy.lm_head.weight.mul_(1.1)
    moved = clean_kl(policy, reference, tokenizer, config, world.questions)
    assert moved.everywhere > 1e-3 and moved.elsewhere > 1e-3
