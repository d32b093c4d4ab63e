"""TRL must train in the contexts in which the policy is sampled, and on the token at which sampling stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers, processors

from actors.chat import prompt_ids
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.tokenizer import load_tokenizer

TEXTS = ("일본의 통화는 무엇입니까?", "Is it . so ?", "ما هي عملة اليابان؟", " two  spaces\n\n", "<|im_end|>", "🙂")
END, TEXT_END = "<|im_end|>", "<|endoftext|>"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), encoding="utf-8")


def tokenizer_with(folder: Path, **parts: Any) -> None:
    """Save the folder's tokenizer with some parts replaced and without a chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, part in parts.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def assert_exact(model: ModelConfig) -> None:
    rendering, tokenizer = Rendering(model), load_tokenizer(model)
    for text in TEXTS:
        rendered = rendering.prompt(text)
        assert rendered is not None
        assert rendering.plain(rendered)["input_ids"] == prompt_ids(tokenizer, model, text)


@pytest.mark.parametrize("system", [None, "한국어로만 답하세요."])
def test_prompts_are_rendered_by_the_chat_template(tiny_model: Path, system: str | None) -> None:
    model = ModelConfig(path=str(tiny_model), system_prompt=system)
    assert_exact(model)
    rendered = Rendering(model).prompt("안녕?")
    assert rendered is not None and rendered.endswith("<|im_start|>user\n안녕?<|im_end|>\n<|im_start|>assistant\n")
    assert (system in rendered) if system else rendered.startswith("<|im_start|>user")


def test_a_token_that_the_tokenizer_prepends_appears_once(folder: Path) -> None:
    front = processors.TemplateProcessing(single=f"{TEXT_END} $A", special_tokens=[(TEXT_END, 0)])
    tokenizer_with(folder, post_processor=front)
    model = ModelConfig(path=str(folder))
    assert_exact(model)
    rendered = Rendering(model).prompt("안녕?")
    assert rendered == f"{TEXT_END}안녕?"


def test_prompts_are_put_into_a_template_of_one_s_own_behind_the_first_token_alone(folder: Path) -> None:
    both = processors.TemplateProcessing(
        single=f"{TEXT_END} $A {END}", special_tokens=[(TEXT_END, 0), (END, 2)]
    )  # fmt: skip
    tokenizer_with(folder, post_processor=both)
    model = ModelConfig(path=str(folder), prompt_template="질문: {prompt}\n답변:")
    assert_exact(model)
    assert Rendering(model).prompt("안녕?") == f"{TEXT_END}질문: 안녕?\n답변:"
    assert Rendering(model).end == END


def test_an_answer_must_leave_the_tokens_of_its_prompt_alone(tiny_model: Path) -> None:
    # " 통화는" is one token of the tiny vocabulary.
    for template, answer, expected in (
        ("{prompt}\n", " 통화는", True),
        ("{prompt} ", "통화는", False),
        ("{prompt}\n통", "화는", False),
        ("{prompt}\n", "통화는", True),
    ):
        rendering = Rendering(ModelConfig(path=str(tiny_model), prompt_template=template))
        prompt = rendering.prompt("Is it?")
        assert prompt is not None
        assert rendering.joins(prompt, rendering.answer(answer)) == expected, template
        joined = list(rendering.plain(prompt + answer)["input_ids"])
        apart = [*rendering.plain(prompt)["input_ids"], *rendering.plain(answer)["input_ids"]]
        assert (joined == apart) == expected


def test_a_prompt_that_sampling_skips_is_none(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content | lower }}{% endfor %}")
    rendering = Rendering(ModelConfig(path=str(folder)))
    assert rendering.prompt("Is it?") is None
    assert rendering.prompt("is it?") == "is it?"


def test_a_prompt_that_cannot_be_written_as_text_is_none(folder: Path) -> None:
    tokenizer_with(folder, normalizer=normalizers.Prepend("!"))
    assert Rendering(ModelConfig(path=str(folder))).prompt("안녕?") is None


def test_the_policy_s_own_tokenizer_is_unchanged(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model))
    before = load_tokenizer(model).special_tokens_map
    plain = Rendering(model).plain
    assert plain is not load_tokenizer(model)
    assert load_tokenizer(model).special_tokens_map == before


@pytest.mark.parametrize(("pad", "expected"), [("<|endoftext|>", "<|endoftext|>"), ("[PAD]", END)])
def test_a_padding_token_without_weights_is_replaced(pad: str, expected: str, folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.save_pretrained(folder)
    assert Rendering(ModelConfig(path=str(folder))).plain.pad_token == expected


# ------------------------------------------------------------------------------------------- the end of an answer


def test_an_answer_ends_with_the_token_at_which_sampling_stops(tiny_model: Path) -> None:
    rendering = Rendering(ModelConfig(path=str(tiny_model)))
    assert rendering.answer("엔입니다.") == "엔입니다." + END
    assert rendering.plain.eos_token == END


def test_the_end_of_a_turn_takes_precedence_over_the_end_of_text(folder: Path) -> None:
    """As in Gemma, whose turns end with a token of their own, different from the tokenizer's end of text."""
    change(folder / "tokenizer_config.json", eos_token=TEXT_END)
    change(folder / "generation_config.json", eos_token_id=[0, 2])
    assert Rendering(ModelConfig(path=str(folder))).end == END


def test_an_end_at_which_sampling_does_not_stop_is_not_used(folder: Path) -> None:
    change(folder / "tokenizer_config.json", eos_token=TEXT_END)
    change(folder / "generation_config.json", eos_token_id=0)
    assert Rendering(ModelConfig(path=str(folder))).end == TEXT_END


def test_without_a_generation_config_the_model_s_own_counts(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    change(folder / "tokenizer_config.json", eos_token=TEXT_END)
    change(folder / "config.json", eos_token_id=0)
    assert Rendering(ModelConfig(path=str(folder))).end == TEXT_END
