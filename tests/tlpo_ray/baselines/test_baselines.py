"""Every sequence-level method really trains, through TRL, on the toy model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.chat import load_tokenizer, prompt_ids
from tlpo_ray.baselines.examples import examples, render
from tlpo_ray.baselines.trainers import language_reward, plain_tokenizer
from tlpo_ray.commands.baseline import run_baseline
from tlpo_ray.config.baseline import BASELINES, BaselineConfig, load_baseline
from tlpo_ray.config.load import presets
from tlpo_ray.config.run import DetectorConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.flow.errors import ConfigError, UserError
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import toy_world

METHODS = ("sft", "dpo", "orpo", "grpo")
PROMPTS = 48


@pytest.fixture(scope="module")
def toy_model() -> Path:
    return cached_toy_model(0, lambda share, loss: None)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    toy_world().write_prompts(file, 1, seed=0)
    return file


def config(method: str, model: Path, prompts: Path, folder: Path, *more: str) -> BaselineConfig:
    given = [f"model.path={model}", f"data.prompts={prompts}", f"data.limit={PROMPTS}", f"folder={folder}"]
    return load_baseline(f"{method}-toy", "quickstart", [*given, "answers.samples=8", *more])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_changes_every_weight_and_leaves_a_model(
    method: str, toy_model: Path, prompts: Path, tmp_path: Path
) -> None:
    result = run_baseline(config(method, toy_model, prompts, tmp_path / "run", "trainer.warmup=0"))
    before, after = weights(toy_model), weights(tmp_path / "run" / "model")
    unchanged = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert unchanged == []
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == result["steps"] and lines[-1]["progress"] == 1.0
    assert all(math.isfinite(line["loss"]) for line in lines)
    if method == "dpo":
        assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-4), "policy and reference are the same at first"
    if method == "grpo":
        assert -1 < lines[0]["reward"] < 1 and lines[0]["length"] > 5
    assert json.loads((tmp_path / "run" / "result.json").read_text())["method"] == method
    with pytest.raises(UserError, match="holds a run already"):
        run_baseline(config(method, toy_model, prompts, tmp_path / "run"))


@pytest.mark.slow
def test_training_texts_are_what_the_policy_is_asked(toy_model: Path, prompts: Path, tmp_path: Path) -> None:
    chosen = config("dpo", toy_model, prompts, tmp_path)
    tokenizer = load_tokenizer(chosen.model)
    plain = plain_tokenizer(tokenizer)
    asked = read_prompts(chosen.data, chosen.seed).prompts
    for prompt in asked:
        assert plain(render(tokenizer, chosen, prompt.text))["input_ids"] == prompt_ids(
            tokenizer, chosen.model, prompt.text
        )
    found = examples(chosen, asked)
    assert found.counts["prompts"] == PROMPTS == sum(found.counts.values()) - PROMPTS
    reward = language_reward(DetectorConfig())
    languages = {render(tokenizer, chosen, prompt.text): prompt.language for prompt in asked}
    for row in found.rows:
        assert row["chosen"].endswith(tokenizer.eos_token) and row["rejected"].endswith(tokenizer.eos_token)
        spoken = [languages[row["prompt"]]]
        assert reward([row["chosen"].removesuffix(tokenizer.eos_token)], spoken) == [1.0]
        assert reward([row["rejected"].removesuffix(tokenizer.eos_token)], spoken) == [-1.0]


@pytest.mark.slow
def test_sft_learns_reference_answers_where_the_file_has_some(toy_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"id": str(n), "language": "ko", "prompt": f"{n}?", "output": f"답 {n}"} for n in range(4)]
    file.write_text("\n".join(json.dumps(row) for row in [*rows, {"id": "4", "language": "ko", "prompt": "4?"}]))
    chosen = config("sft", toy_model, file, tmp_path / "run", "answers.reference_field=output")
    found = examples(chosen, read_prompts(chosen.data, 0).prompts)
    assert {row["completion"] for row in found.rows} == {f"답 {n}<|end|>" for n in range(4)}
    assert found.counts["unanswered"] == 1


@pytest.mark.slow
def test_a_policy_that_is_never_confused_gives_no_pairs(toy_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"id": "0", "language": "uk", "prompt": toy_world().questions[0].text}))
    chosen = config("dpo", toy_model, file, tmp_path / "run", "answers.max_new_tokens=2")
    with pytest.raises(UserError, match="dpo: no example from 1 prompts"):
        examples(chosen, read_prompts(chosen.data, 0).prompts)


@pytest.mark.parametrize("method", presets(BASELINES))
@pytest.mark.parametrize("like", ["qwen3-8b-ko", "gemma-3-4b-ja"])
def test_every_method_takes_model_and_data_of_every_preset(method: str, like: str) -> None:
    from tlpo_ray.config.load import load_config

    made, run = load_baseline(method, like), load_config(like)
    assert (made.model, made.data, made.detector) == (run.model, run.data, run.detector)
    assert made.name == f"{method}-{like}" and made.method == method.removesuffix("-toy")


@pytest.mark.parametrize(
    ("method", "like", "settings", "said"),
    [
        ("ppo", "qwen3-8b-ko", [], "no preset"),
        ("dpo", "qwen3-8b-xx", [], "did you mean qwen3-8b-"),
        ("dpo", "qwen3-8b-ko", ["trainer.batch=30"], "no multiple of trainer.micro_batch 4"),
        ("grpo", "qwen3-8b-ko", ["trainer.batch=36"], "no multiple of trainer.generations 8"),
        ("dpo", "qwen3-8b-ko", ["trainer.learning_rate=1"], "unknown key trainer.learning_rate"),
        ("dpo", "qwen3-8b-ko", ["answers.reference_field=output"], "is for sft, the method is dpo"),
    ],
)  # fmt: skip
def test_wrong_configurations_are_told_in_one_line(method: str, like: str, settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_baseline(method, like, settings)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_setting_that_trl_refuses_is_told_in_one_line(toy_model: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sft: TRL refuses the settings: .*no_such_thing") as caught:
        run_baseline(config("sft", toy_model, prompts, tmp_path / "run", "trainer.extra.no_such_thing=1"))
    assert len(str(caught.value).splitlines()) == 1


def test_the_full_size_presets_differ_from_the_toy_s_in_what_they_say() -> None:
    full: Any = load_baseline("dpo", "qwen3-8b-ko")
    assert full.answers.samples == 16 and full.answers.temperature == 0.7 and full.answers.max_new_tokens == 1024
