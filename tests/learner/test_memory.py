"""Static memory of a learner rank, and what is reported when it does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from learner import memory
from learner.memory import static_bytes, suggest_settings
from learner.policy import load_model
from learner.worker import build_learner
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import GIB, LearnerConfig
from tlpo_ray.errors import ModelError, ResourceError
from tlpo_ray.flow.models import count_parameters

BILLION = 10**9
ADAPTER = "an adapter (learner.lora.rank=16)"
EIGHT_BILLION = 8_200_000_000
"""Parameters of Qwen3-8B."""


def learner(**settings: Any) -> LearnerConfig:
    return LearnerConfig.model_validate(settings)


def model(dtype: str = "bfloat16") -> ModelConfig:
    return ModelConfig(path="a", dtype=dtype)


@pytest.mark.parametrize(
    ("stage", "num_ranks", "half", "single"),
    [  # bytes per parameter: weight and gradient, then moments and, unless the weights are stepped themselves, masters
        (0, 4, 2 + 2 + 12, 4 + 4 + 8),
        (1, 4, 2 + 2 + 12 / 4, 4 + 4 + 12 / 4),
        (2, 4, 2 + 2 / 4 + 12 / 4, 4 + 4 / 4 + 12 / 4),
        (3, 4, 16 / 4, 20 / 4),
        (3, 1, 16, 20),
    ],
)
@pytest.mark.parametrize("beta", [0.04, 0.0])
def test_bytes_of_a_rank(stage: int, num_ranks: int, half: float, single: float, beta: float) -> None:
    config = learner(zero_stage=stage, num_ranks=num_ranks, beta=beta)
    holders = num_ranks if stage == 3 else 1
    for dtype, expected, size in (("bfloat16", half, 2), ("float32", single, 4)):
        reference = size / holders if beta else 0
        assert static_bytes(BILLION, BILLION, model(dtype), config) == pytest.approx((expected + reference) * BILLION)


def test_an_adapter_takes_the_frozen_weights_and_little_more() -> None:
    config = learner(lora=LoraConfig(rank=16))
    assert static_bytes(BILLION, BILLION // 100, model(), config) == pytest.approx((2 + 0.16 - 0.02) * BILLION)


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 3, "num_ranks": 4}])
def test_the_torch_engine_steps_its_weights_directly_and_shards_nothing(settings: dict[str, int]) -> None:
    config = learner(engine="torch", beta=0, **settings)
    assert static_bytes(BILLION, BILLION, model(), config) == 16 * BILLION


def test_parameters_are_counted_without_reading_weights(tiny_model: Path, tiny_untied: Path, tmp_path: Path) -> None:
    for folder in (tiny_model, tiny_untied):
        config = ModelConfig(path=str(folder))
        policy = load_model(config, torch.float32, trainable=True)
        assert count_parameters(config) == sum(parameter.numel() for parameter in policy.parameters())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"^model '.*' cannot be read: "):
        count_parameters(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "gib", "suggestion"),
    [
        ({"zero_stage": 1}, 130, f"learner.zero_stage=3 learner.num_ranks=2 or {ADAPTER}"),
        ({"zero_stage": 1, "num_ranks": 8}, 55, f"learner.zero_stage=2 or {ADAPTER}"),
        ({"zero_stage": 3, "num_ranks": 2}, 40, f"learner.num_ranks=5 or {ADAPTER}"),
        ({"zero_stage": 3, "num_ranks": 7}, 18, ADAPTER),
        ({"zero_stage": 3, "lora": {"rank": 16}}, 10, "learner.num_ranks=2"),
        ({"engine": "torch", "beta": 0}, 80, ADAPTER),
        ({"zero_stage": 3}, 1, ""),
    ],
)
def test_the_smallest_change_that_fits_is_suggested(settings: dict[str, Any], gib: float, suggestion: str) -> None:
    config, available = learner(**settings), int(gib * GIB)
    num_trained = 0 if config.lora else EIGHT_BILLION
    assert static_bytes(EIGHT_BILLION, num_trained, model(), config) > available, "the settings fit as they are"
    advice = suggest_settings(EIGHT_BILLION, num_trained, model(), config, available, on_gpu=True)
    assert advice == (f"{suggestion} fits" if suggestion else "use a smaller model")
    changes = {name: yaml.safe_load(value) for name, value in re.findall(r"learner\.(\w+)=([\w.]+)", suggestion)}
    if changes:
        assert static_bytes(EIGHT_BILLION, num_trained, model(), learner(**settings | changes)) <= 0.8 * available
    if changes.get("num_ranks", 1) > 1:
        fewer = learner(**settings | changes | {"num_ranks": changes["num_ranks"] - 1})
        assert static_bytes(EIGHT_BILLION, num_trained, model(), fewer) > 0.8 * available, "one rank less would fit too"


def test_more_ranks_are_not_suggested_on_cpus_because_they_may_share_one_machine() -> None:
    advice = suggest_settings(EIGHT_BILLION, EIGHT_BILLION, model(), learner(), 40 * GIB, on_gpu=False)
    assert advice == f"{ADAPTER} fits"


def test_a_learner_that_does_not_fit_is_reported_in_one_line_before_the_device_is_touched(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda *, on_gpu: (1 << 19, "a GPU"))
    moved: list[object] = []
    monkeypatch.setattr(nn.Module, "to", lambda module, *where: moved.append(where))
    with pytest.raises(
        ResourceError,
        match=r"^a learner rank needs \d\.\d GiB before activations, and a GPU has 0\.0: "
        r"an adapter \(learner\.lora\.rank=16\) fits$",
    ):
        build_learner(ModelConfig(path=str(tiny_model)), learner(zero_stage=1), seed=0)
    assert not moved
