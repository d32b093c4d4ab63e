"""Configuration of baselines: every preset on every TLPO preset, what is refused, and that a dump loads back equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlpo_ray.config.baseline import BASELINES, SHARED, BaselineConfig, load_baseline
from tlpo_ray.config.load import build_config, dump_config, load_config, presets, read_settings
from tlpo_ray.errors import ConfigError

METHODS = ("sft", "dpo", "orpo", "grpo")
TOY = ("model.path=toy", "data.prompts=toy.jsonl")


def refusal(method: str, *overrides: str, like: str = "qwen3-8b-ko") -> str:
    """Return the one line with which loading is refused."""
    with pytest.raises(ConfigError) as caught:
        load_baseline(method, like, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_method_has_a_preset_for_real_models_and_one_for_the_toy() -> None:
    every = (*METHODS, "smoothie")
    assert set(presets(BASELINES)) == {*every, *(f"{method}-toy" for method in every)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("like", [name for name in presets() if not name.startswith("quickstart")])
def test_model_data_and_detector_are_those_of_the_tlpo_run(method: str, like: str) -> None:
    config, run = load_baseline(method, like), load_config(like)
    assert {key: getattr(config, key) for key in SHARED} == {key: getattr(run, key) for key in SHARED}
    assert (config.method, config.name, config.folder) == (method, f"{method}-{like}", Path(f"runs/{method}-{like}"))
    assert config.answers.samples == 16 and config.answers.temperature == 0.7, "the paper's pairs"


@pytest.mark.parametrize("method", METHODS)
def test_toy_presets_need_only_a_model_and_prompts(method: str) -> None:
    config = load_baseline(f"{method}-toy", "quickstart", TOY)
    assert config.method == method
    assert config.answers.engine == "transformers"
    assert config.trainer.lr > 1e-5, "half a million parameters, not eight billion"


def test_a_dump_loads_back_equal(tmp_path: Path) -> None:
    config = load_baseline("dpo", "qwen3-8b-ko", ["trainer.extra={loss_type: [sigmoid]}", "seed=3"])
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    assert build_config(BaselineConfig, read_settings(str(file)), source="test") == config
    assert load_baseline(str(file), str(file)) == config, "a run can be repeated from its folder"


def test_a_user_file_extends_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: orpo\ntrainer: {lr: 2e-6}\n", encoding="utf-8")
    config = load_baseline(str(file), "gemma-3-4b-ja")
    assert (config.method, config.trainer.lr, config.name) == ("orpo", 2e-6, "mine-gemma-3-4b-ja")


@pytest.mark.parametrize(
    ("method", "override", "expected"),
    [
        ("dpo", "trainer.batch_size=30", "trainer.batch_size 30 is not a multiple of trainer.micro_batch_size 4"),
        ("grpo", "trainer.num_generations=5", "trainer.batch_size 32 is not a multiple of trainer.num_generations 5"),
        ("dpo", "answers.reference_field=output", "answers.reference_field is for sft, but the method is dpo"),
        ("sft", "trainer.learning_rate=1", "unknown key trainer.learning_rate"),
        ("sft", "trainer.l=1", "did you mean trainer.lr?"),
        ("sft", "trainer.warmup=1", "trainer.warmup is 1"),
        ("sft", "answers.temperature=0", "answers.temperature is 0"),
        ("sft", "learner.lr=1e-6", "unknown key learner"),
        ("sft", "method=ppo", "method is 'ppo': expected 'sft', 'dpo', 'orpo' or 'grpo'"),
        ("dop", "seed=1", "dop: no preset or file of that name; did you mean dpo?"),
        ("./none.yaml", "seed=1", "none.yaml: no such file"),
    ],
)
def test_a_wrong_configuration_is_reported_in_one_line(method: str, override: str, expected: str) -> None:
    assert expected in refusal(method, override)


def test_an_unknown_baseline_is_reported_with_the_available_ones() -> None:
    assert "available are dpo, dpo-toy, grpo, grpo-toy, orpo, orpo-toy, sft, sft-toy" in refusal("kto")


def test_a_missing_setting_is_named() -> None:
    assert "model.path is missing" in refusal("sft", like=str(BASELINES / "sft.yaml"))
