"""Each method through the real TRL on a tiny model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.baselines.examples import Examples
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.baselines.trainers import check_settings, language_reward, run_trainer
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.load import build_config
from tlpo_ray.errors import ConfigError, NonFiniteError
from tlpo_ray.evaluation.sampling import Sampling, sample_completions
from tlpo_ray.flow.records import Prompt

METHODS = ("sft", "dpo", "orpo", "grpo")
QUESTION, CLEAN, CONFUSED = "일본의 통화는 무엇입니까?", "일본의 통화는 엔입니다.", "일본의 통화는 гривня입니다."
Steps = list[Mapping[str, float]]


def settings(model: Path, folder: Path, method: str, *overrides: str) -> BaselineConfig:
    trainer = {
        "lr": 1e-3, "warmup": 0, "batch_size": 4, "micro_batch_size": 2, "max_length": 128, "num_generations": 4,
        "max_new_tokens": 8, "temperature": 1.0,
    }  # fmt: skip
    given: dict[str, Any] = {
        "name": "t", "folder": str(folder), "method": method, "trainer": trainer,
        "model": {"path": str(model), "dtype": "float32", "max_context": 128}, "data": {"prompts": "unused"},
    }  # fmt: skip
    return build_config(BaselineConfig, given, overrides, source="test")


def data_of(config: BaselineConfig, count: int) -> Examples:
    rendering = Rendering(config.model)
    prompt = rendering.prompt(QUESTION)
    assert prompt is not None
    row = {
        "sft": {"completion": rendering.answer(CLEAN)},
        "grpo": {"language": "ko"},
    }.get(config.method, {"chosen": rendering.answer(CLEAN), "rejected": rendering.answer(CONFUSED)})
    return Examples(rows=({"prompt": prompt} | row,) * count, counts={}, tokens=0)


def train(config: BaselineConfig, count: int) -> Steps:
    steps: Steps = []
    training = run_trainer(config, data_of(config, count), config.folder, lambda step, values: steps.append(values))
    assert training.steps == len(steps)
    assert (training.tokens > 0) == (config.method == "grpo")
    return steps


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_weight_is_trained_and_the_rest_of_the_model_is_unchanged(
    method: str, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = settings(tiny_model, tmp_path / "run", method)
    steps = train(config, 12)
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "libraries print nothing"
    assert len(steps) == (12 if method == "grpo" else 3)
    assert steps[-1]["progress"] == 1 and all(step["grad_norm"] >= 0 for step in steps)
    assert steps[0]["lr"] == pytest.approx(1e-3) and steps[-1]["lr"] < 1e-3

    before, after = weights(tiny_model), weights(tmp_path / "run" / "model")
    assert before.keys() == after.keys()
    assert [name for name in before if before[name].equal(after[name])] == []
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        old, new = ((folder / name).read_text("utf-8") for folder in (tiny_model, tmp_path / "run" / "model"))
        assert (json.loads(old) == json.loads(new)) if name.endswith("json") else old == new, name
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model"]


@pytest.mark.slow
def test_sft_learns_an_answer_and_its_end_in_the_context_that_is_sampled(tiny_model: Path, tmp_path: Path) -> None:
    config = settings(
        tiny_model, tmp_path / "run", "sft", "trainer.lr=3e-3", "trainer.epochs=30", "model.system_prompt=한국어로."
    )
    losses = [step["loss"] for step in train(config, 4)]
    assert losses[-1] < 0.1 < losses[0]
    trained = config.model.model_copy(update={"path": str(tmp_path / "run" / "model")})
    prompts = [Prompt(index=0, id="p", language="ko", text=QUESTION)]
    sampling = Sampling(temperature=0, max_new_tokens=60, engine="transformers")
    (answer,) = sample_completions(trained, prompts, sampling).completions
    assert answer.text == CLEAN
    assert answer.finished


@pytest.mark.slow
def test_dpo_starts_at_ln_2_and_learns_to_prefer_the_clean_answer(tiny_model: Path, tmp_path: Path) -> None:
    losses = [step["loss"] for step in train(settings(tiny_model, tmp_path / "run", "dpo"), 24)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1] < 0.5


@pytest.mark.slow
def test_grpo_logs_reward_and_length(tiny_model: Path, tmp_path: Path) -> None:
    config = settings(tiny_model, tmp_path / "run", "grpo", "trainer.beta=0.04")
    for step in train(config, 2):
        assert -1 <= step["reward"] <= 1
        assert 0 < step["length"] <= 8


def test_the_reward_is_plus_1_for_a_clean_answer_and_minus_1_for_a_confused_one() -> None:
    reward = language_reward(DetectorConfig())
    assert reward([CLEAN, CONFUSED, CLEAN], language=["ko", "ko", "ja"], prompts=["?"] * 3) == [1, -1, -1]
    strict = language_reward(DetectorConfig(english="confusion"))
    assert strict(["the yen", CLEAN], language=["ko", "ko"]) == [-1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_the_same_seed_gives_the_same_model(method: str, tiny_model: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        config = settings(tiny_model, tmp_path / name, method, f"seed={seed}")
        rows = enumerate(data_of(config, 4).rows)
        different = tuple(row | {"prompt": f"{number}{row['prompt']}"} for number, row in rows)
        run_trainer(config, Examples(rows=different, counts={}, tokens=0), config.folder, lambda step, values: None)
        file = config.folder / "model" / "model.safetensors"
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_the_model_is_written_in_the_configured_number_format(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    config = settings(tiny_model, tmp_path / "run", "sft", "model.dtype=bfloat16")
    train(config, 4)
    assert {weight.dtype for weight in weights(tmp_path / "run" / "model").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_writes_no_model(tiny_model: Path, tmp_path: Path) -> None:
    config = settings(tiny_model, tmp_path / "run", "sft", "trainer.lr=1e30", "trainer.epochs=4")
    with pytest.raises(NonFiniteError, match=r"is nan at step \d+; lower trainer\.lr"):
        train(config, 4)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "override", "expected"),
    [
        ("sft", "trainer.extra={bta: 1}", "trainer.extra.bta: TRL's settings of sft have no such key"),
        ("dpo", "trainer.extra={loss_typ: [ipo]}", "trainer.extra.loss_typ: TRL's settings of dpo have no such key"),
        ("grpo", "trainer.extra={lr_scheduler_type: step}", "grpo: TRL refuses the settings: step is not a valid"),
    ],
)
def test_a_setting_that_trl_refuses_is_reported_in_one_line(
    method: str, override: str, expected: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(settings(tiny_model, tmp_path / "run", method, override))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_extra_settings_reach_trl(tiny_model: Path, tmp_path: Path) -> None:
    config = settings(tiny_model, tmp_path / "run", "dpo", "trainer.extra={lr_scheduler_type: constant}")
    assert all(step["lr"] == pytest.approx(1e-3) for step in train(config, 12))
