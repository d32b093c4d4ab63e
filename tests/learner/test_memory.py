"""What a learner rank holds, and what is said before it takes more than there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from learner import memory
from learner.memory import held, what_fits
from learner.policy import load_model
from learner.worker import build_learner
from tlpo_ray.config.run import GIB, LearnerConfig, LoraConfig, ModelConfig
from tlpo_ray.errors import ModelError, ResourceError
from tlpo_ray.flow.models import parameters_of

BILLION = 10**9
ADAPTER = "an adapter (learner.lora.rank=16)"
EIGHT = 8_200_000_000
"""Qwen3-8B."""


def learner(**settings: Any) -> LearnerConfig:
    return LearnerConfig.model_validate(settings)


def model(dtype: str = "bfloat16") -> ModelConfig:
    return ModelConfig(path="a", dtype=dtype)


@pytest.mark.parametrize(
    ("stage", "ranks", "half", "single"),
    [  # bytes of a parameter: weight and gradient, then moments and, beside weights that compute, masters
        (0, 4, 2 + 2 + 12, 4 + 4 + 8),
        (1, 4, 2 + 2 + 12 / 4, 4 + 4 + 12 / 4),
        (2, 4, 2 + 2 / 4 + 12 / 4, 4 + 4 / 4 + 12 / 4),
        (3, 4, 16 / 4, 20 / 4),
        (3, 1, 16, 20),
    ],
)
@pytest.mark.parametrize("beta", [0.04, 0.0])
def test_bytes_of_a_rank(stage: int, ranks: int, half: float, single: float, beta: float) -> None:
    config = learner(zero_stage=stage, num_ranks=ranks, beta=beta)
    holders = ranks if stage == 3 else 1
    for dtype, wanted, copy in (("bfloat16", half, 2), ("float32", single, 4)):
        reference = copy / holders if beta else 0
        assert held(BILLION, BILLION, model(dtype), config) == pytest.approx((wanted + reference) * BILLION)


def test_an_adapter_takes_the_frozen_weights_and_little_more() -> None:
    config = learner(lora=LoraConfig(rank=16))
    assert held(BILLION, BILLION // 100, model(), config) == pytest.approx((2 + 0.16 - 0.02) * BILLION)


def test_the_torch_engine_steps_the_weights_that_compute(tiny_model: Path) -> None:
    config = learner(engine="torch", beta=0)
    assert held(BILLION, BILLION, model(), config) == 16 * BILLION


def test_parameters_are_counted_without_reading_weights(tiny_model: Path, tiny_untied: Path, tmp_path: Path) -> None:
    for folder in (tiny_model, tiny_untied):
        found = ModelConfig(path=str(folder))
        policy = load_model(found, torch.float32, trainable=True)
        assert parameters_of(found) == sum(parameter.numel() for parameter in policy.parameters())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"^model '.*' cannot be read: "):
        parameters_of(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "gib", "said"),
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
def test_the_smallest_change_that_fits(settings: dict[str, Any], gib: float, said: str) -> None:
    config, room = learner(**settings), int(gib * GIB)
    trained = 0 if config.lora else EIGHT
    assert held(EIGHT, trained, model(), config) > room, "it would do as it is"
    found = what_fits(EIGHT, trained, model(), config, room, on_gpu=True)
    assert found == (f"{said} fits" if said else "take a smaller model")
    changes = {name: yaml.safe_load(value) for name, value in re.findall(r"learner\.(\w+)=([\w.]+)", said)}
    if changes:
        assert held(EIGHT, trained, model(), learner(**settings | changes)) <= 0.8 * room
    if changes.get("num_ranks", 1) > 1:
        fewer = learner(**settings | changes | {"num_ranks": changes["num_ranks"] - 1})
        assert held(EIGHT, trained, model(), fewer) > 0.8 * room, "one rank less would do"


def test_ranks_on_a_cpu_may_all_be_of_one_machine() -> None:
    assert what_fits(EIGHT, EIGHT, model(), learner(), 40 * GIB, on_gpu=False) == f"{ADAPTER} fits"


def test_a_learner_that_does_not_fit_is_one_line_before_it_takes_any(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "there", lambda *, on_gpu: (1 << 19, "a GPU"))
    moved: list[object] = []
    monkeypatch.setattr(nn.Module, "to", lambda module, *where: moved.append(where))
    with pytest.raises(
        ResourceError,
        match=r"^a learner rank needs \d\.\d GiB before activations, and a GPU has 0\.0: "
        r"an adapter \(learner\.lora\.rank=16\) fits$",
    ):
        build_learner(ModelConfig(path=str(tiny_model)), learner(zero_stage=1), seed=0)
    assert not moved
