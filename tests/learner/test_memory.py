"""What a learner rank holds, and what is said before it takes more than there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from learner import memory
from learner.memory import GIB, held, what_fits
from learner.policy import load_model
from learner.worker import build_learner
from tlpo_ray.config.run import LearnerConfig, LoraConfig, ModelConfig
from tlpo_ray.flow.errors import ResourceError
from tlpo_ray.flow.models import parameters_in

BILLION = 10**9
EIGHT = 8_200_000_000
"""Qwen3-8B."""


def learner(**settings: Any) -> LearnerConfig:
    return LearnerConfig.model_validate(settings)


def model(dtype: str = "bfloat16") -> ModelConfig:
    return ModelConfig(path="a", dtype=dtype)


@pytest.mark.parametrize(
    ("stage", "ranks", "wanted"),
    [
        (0, 4, 2 + 2 + 12),
        (1, 4, 2 + 2 + 12 / 4),
        (2, 4, 2 + 2 / 4 + 12 / 4),
        (3, 4, 16 / 4),
        (3, 1, 16),
    ],
)
@pytest.mark.parametrize(("beta", "reference"), [(0.04, 2), (0.0, 0)])
def test_bytes_of_a_rank(stage: int, ranks: int, wanted: float, beta: float, reference: float) -> None:
    config = learner(zero_stage=stage, ranks=ranks, beta=beta)
    reference /= ranks if stage == 3 else 1
    assert held(BILLION, BILLION, model(), config) == pytest.approx((wanted + reference) * BILLION)
    # float32: 4 of weights, 4 of gradients and 8 of the optimizer, and a reference of 4
    single = {0: 16, 1: 8 + 8 / ranks, 2: 4 + 12 / ranks, 3: 16 / ranks}[stage]
    assert held(BILLION, BILLION, model("float32"), config) == pytest.approx((single + 2 * reference) * BILLION)


def test_an_adapter_takes_the_frozen_weights_and_little_more() -> None:
    config = learner(lora=LoraConfig(rank=16))
    assert held(BILLION, BILLION // 100, model(), config) == pytest.approx((2 + 0.16 - 0.02) * BILLION)


def test_the_torch_engine_steps_the_weights_that_compute(tiny_model: Path) -> None:
    config = learner(engine="torch", beta=0)
    assert held(BILLION, BILLION, model(), config) == 16 * BILLION
    policy = load_model(ModelConfig(path=str(tiny_model)), memory.torch.float32, trainable=True)
    assert parameters_in(tiny_model) == sum(parameter.numel() for parameter in policy.parameters())


@pytest.mark.parametrize(
    ("settings", "gib", "said"),
    [
        ({"zero_stage": 1}, 80, "learner.zero_stage=3, learner.ranks=2 fits"),
        ({"zero_stage": 3, "ranks": 2}, 40, "learner.ranks=4 fits"),
        ({"zero_stage": 3, "ranks": 8}, 14, "learner.ranks=10 fits"),
        ({"engine": "torch", "beta": 0}, 80, "learner.engine=deepspeed, learner.zero_stage=3, learner.ranks=2 fits"),
        ({"zero_stage": 3}, 0.05, "take a smaller model"),
    ],
)
def test_the_smallest_change_that_fits(settings: dict[str, Any], gib: float, said: str) -> None:
    config, room = learner(**settings), int(gib * GIB)
    assert held(EIGHT, EIGHT, model(), config) > room, "it would do as it is"
    assert what_fits(EIGHT, EIGHT, model(), config, room) == said
    changes = {name: yaml.safe_load(value) for name, value in re.findall(r"learner\.(\w+)=([\w.]+)", said)}
    if not changes:
        return
    assert held(EIGHT, EIGHT, model(), learner(**settings | changes)) <= room
    fewer = learner(**settings | changes | {"ranks": changes["ranks"] - 1})
    assert held(EIGHT, EIGHT, model(), fewer) > room, "one rank less would do"


def test_a_learner_that_does_not_fit_is_one_line_before_it_takes_any(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "there", lambda *, on_gpu: (1 << 20, "a GPU"))
    moved: list[object] = []
    monkeypatch.setattr(nn.Module, "to", lambda module, *where: moved.append(where))
    with pytest.raises(
        ResourceError,
        match=r"^a learner rank needs \d\.\d GiB before activations, and a GPU has 0\.0: learner\.zero_stage=3, "
        r"learner\.ranks=\d+ fits, or train an adapter \(learner\.lora\.rank=16\)$",
    ):
        build_learner(ModelConfig(path=str(tiny_model)), learner(zero_stage=1), seed=0)
    assert not moved
