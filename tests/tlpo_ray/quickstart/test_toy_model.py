from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from actors.chat import prompt_ids
from actors.token_bytes import TokenBytes
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.quickstart.clean_kl import clean_kl
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_model import ToyRecipe
from tlpo_ray.quickstart.toy_questions import right_answers
from tlpo_ray.quickstart.world import WRONG_LANGUAGES, toy_world

TINY = ToyRecipe(num_layers=1, hidden_size=64, num_heads=2, intermediate_size=128, epochs=3)

pytestmark = pytest.mark.slow


class Progress:
    """Records what a training reports."""

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
    return cached_toy_model(5, Progress(), recipe=TINY)


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()


def test_a_second_call_trains_nothing_and_fresh_trains_the_same_model_again(folder: Path) -> None:
    before = {name: value.clone() for name, value in load(folder).named_parameters()}
    cached, retrained = Progress(), Progress()
    assert cached_toy_model(5, cached, recipe=TINY) == folder and not cached.losses
    assert cached_toy_model(5, retrained, recipe=TINY, fresh=True) == folder and retrained.share == 1.0
    assert retrained.losses[-1] < retrained.losses[0] - 1
    assert all(torch.equal(value, before[name]) for name, value in load(folder).named_parameters())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_seed_makes_another_model(folder: Path) -> None:
    other = cached_toy_model(6, Progress(), recipe=TINY)
    assert other != folder
    assert not torch.equal(load(other).lm_head.weight, load(folder).lm_head.weight)


def test_the_model_loads_like_any_other_and_stops_at_its_end_token(folder: Path) -> None:
    config = ModelConfig(path=str(folder))
    tokenizer, model = load_tokenizer(config), load(folder)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size
    ids = prompt_ids(tokenizer, config, toy_world().questions[0].text)
    assert tokenizer.decode(ids) == f"<|user|>{toy_world().questions[0].text}<|end|><|assistant|>"
    out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=4, do_sample=False)
    assert out.shape[1] > len(ids)


def test_the_tokenizer_restores_every_answer(folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    for question in toy_world().questions:
        for language in (question.language, *WRONG_LANGUAGES):
            text = question.answer(language)
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_wrong_names_differ_from_right_ones_from_the_confusion_point_on(folder: Path) -> None:
    """Otherwise the language is decided before the point that TLPO changes, and the repair costs knowledge."""
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    token_bytes = TokenBytes(tokenizer)
    for question in toy_world().questions:
        right = tokenizer(question.clean_answer)["input_ids"]
        for language in WRONG_LANGUAGES:
            text = question.answer(language)
            wrong = tokenizer(text)["input_ids"]
            different = next(at for at, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b)
            confused = question.template.index("{name}")
            assert token_bytes.tokens_of_character(wrong, text, confused)[0] == different, text


def test_clean_kl_is_zero_for_the_same_policy_and_positive_for_a_changed_one(folder: Path) -> None:
    config, world = ModelConfig(path=str(folder)), toy_world()
    tokenizer, reference, policy = load_tokenizer(config), load(folder), load(folder)
    answers = right_answers(world.questions)
    same = clean_kl(policy, reference, tokenizer, config, answers)
    assert same.all_positions == pytest.approx(0, abs=1e-6) and same.beyond_name == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        policy.lm_head.weight.mul_(1.1)
    moved = clean_kl(policy, reference, tokenizer, config, answers)
    assert moved.all_positions > 1e-3 and moved.beyond_name > 1e-3
