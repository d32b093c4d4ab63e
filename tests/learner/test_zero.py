"""DeepSpeed at every ZeRO stage, on one rank and on two, makes the updates of the plain torch engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.memory import held
from learner.report import merged
from learner.worker import LearnerWorker, build_learner
from tests.learner.ranks import (
    ADAPTER,
    STAGES,
    RankResult,
    Setting,
    Trained,
    Weights,
    publish,
    run_ranks,
    train,
    weights,
)
from tests.tiny import random_groups
from tlpo_ray.config.run import Dtype, LearnerConfig, ModelConfig
from tlpo_ray.flow.models import parameters_of
from tlpo_ray.flow.records import CandidateGroup

pytestmark = pytest.mark.slow

GROUPS = (8, 8, 3, 1)
"""Of the updates: the last two are short, and in the last one of two ranks has nothing but a filler."""
# Clipping and weight decay strong enough to show; steps small enough that Adam's division does not blow rounding up.
CONFIG: dict[str, Any] = {"lr": 1e-4, "warmup": 0.0, "weight_decay": 1.0, "max_grad_norm": 0.02, "micro_batch_size": 2}
TOLERANCE = 1e-5

by_stage = pytest.mark.parametrize("stage", STAGES)
by_ranks = pytest.mark.parametrize("ranks", [1, 2])


@pytest.fixture(scope="module")
def updates(tiny_model: Path) -> tuple[list[CandidateGroup], ...]:
    return tuple(random_groups(tiny_model, count, seed=seed) for seed, count in enumerate(GROUPS))


def torch_worker(folder: Path, dtype: Dtype = "float32") -> LearnerWorker:
    config = LearnerConfig.model_validate(CONFIG | {"engine": "torch"})
    return build_learner(ModelConfig(path=str(folder), dtype=dtype), config, seed=0)


@pytest.fixture(scope="module")
def expected(tiny_model: Path, updates: tuple[list[CandidateGroup], ...]) -> Trained:
    return train(torch_worker(tiny_model), updates)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, updates: tuple[list[CandidateGroup], ...]) -> Trained:
    config = LearnerConfig.model_validate(CONFIG | {"engine": "torch", "lora": ADAPTER})
    model = ModelConfig(path=str(tiny_model), dtype="float32")
    return train(build_learner(model, config, seed=0), updates)


@pytest.fixture(scope="module")
def results(
    tiny_model: Path, updates: tuple[list[CandidateGroup], ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[RankResult]]:
    """By number of ranks, every rank's result."""
    root = tmp_path_factory.mktemp("zero")
    settings = [
        Setting(model=tiny_model, config=CONFIG, ranks=ranks, updates=updates, folder=root / f"ranks-{ranks}")
        for ranks in (1, 2)
    ]
    return {setting.ranks: run_ranks(setting) for setting in settings}


def difference(one: Weights, other: Weights) -> float:
    assert list(one) == list(other)
    return max(float((one[name].detach() - other[name].detach()).abs().max()) for name in one)


@by_ranks
@by_stage
def test_weights_are_those_of_the_torch_engine(
    stage: int, ranks: int, results: dict[int, list[RankResult]], expected: Trained, tiny_model: Path
) -> None:
    first, *others = (result.trained[stage] for result in results[ranks])
    assert difference(first.weights, expected.weights) < TOLERANCE
    assert difference(expected.weights, weights(publish(torch_worker(tiny_model)))) > 50 * TOLERANCE
    assert first.canary_logp == pytest.approx(expected.canary_logp, abs=TOLERANCE)
    assert not any(other.weights for other in others)


@by_ranks
@pytest.mark.parametrize("stage", [1, 3])
def test_recomputing_activations_changes_no_weight(
    stage: int, ranks: int, results: dict[int, list[RankResult]], expected: Trained
) -> None:
    assert difference(results[ranks][0].recomputed[stage].weights, expected.weights) < TOLERANCE


@by_ranks
@by_stage
def test_reports_of_all_ranks_merge_into_that_of_the_torch_engine(
    stage: int, ranks: int, results: dict[int, list[RankResult]], expected: Trained
) -> None:
    of_ranks = zip(*(result.trained[stage].reports for result in results[ranks]), strict=True)
    for report, wanted in zip(map(merged, of_ranks), expected.reports, strict=True):
        assert (report.version, report.groups, report.lr) == (wanted.version, wanted.groups, wanted.lr)
        assert report.reward_mass == pytest.approx(wanted.reward_mass, rel=1e-5)
        for step, wanted_step in zip(report.steps, wanted.steps, strict=True):
            for name in ("loss", "surrogate", "kl", "clip_fraction", "ratio_deviation"):
                assert getattr(step, name) == pytest.approx(getattr(wanted_step, name), rel=1e-3, abs=1e-5), name
            if stage == 0:
                assert math.isnan(step.grad_norm) and "grad_norm" not in report.metrics()
            else:
                assert step.grad_norm == pytest.approx(wanted_step.grad_norm, rel=1e-4)
                assert step.grad_norm > CONFIG["max_grad_norm"], "nothing was clipped"


@by_ranks
@by_stage
def test_bfloat16_keeps_float32_master_weights(
    stage: int, ranks: int, results: dict[int, list[RankResult]], tiny_model: Path
) -> None:
    trained = results[ranks][0].bfloat16[stage]
    start = weights(publish(torch_worker(tiny_model, "bfloat16")))
    assert {tensor.dtype for tensor in trained.weights.values()} == {torch.bfloat16}
    assert all(bool(tensor.isfinite().all()) for tensor in trained.weights.values())
    before, after = start["model.embed_tokens.weight"], trained.weights["model.embed_tokens.weight"]
    # There bfloat16 numbers are 5e-4 apart: each of the eight steps, 1e-4 at most, would be rounded away.
    large = (before.abs() > 1 / 16) & (before.abs() < 1 / 8)
    assert float((after != before)[large].float().mean()) > 0.1
    assert trained.reports[0].steps[0].ratio_deviation < 0.2


@by_ranks
@by_stage
def test_an_adapter_is_that_of_the_torch_engine(
    stage: int, ranks: int, results: dict[int, list[RankResult]], adapter: Trained
) -> None:
    found = results[ranks][0].adapter[stage].weights
    assert found and all(".lora_" in name for name in found)
    assert difference(found, adapter.weights) < TOLERANCE
    halved = results[ranks][0].adapter_bfloat16[stage].weights
    assert {tensor.dtype for tensor in halved.values()} == {torch.bfloat16}
    apart = {name: halved[name].float() for name in found}
    # Rounding to 8 bits, of weights as large as 0.1, and of what the steps, 1e-4 at most, were made from.
    assert difference(apart, found) < 2e-3


@by_ranks
def test_with_stage_3_no_rank_ever_holds_a_whole_model(ranks: int, results: dict[int, list[RankResult]]) -> None:
    for result in results[ranks]:
        assert result.whole[3] == [0, 0], "policy and reference"
        assert min(result.whole[2]) > 0


@by_ranks
@by_stage
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rank_holds_what_is_foretold(
    dtype: Dtype, stage: int, ranks: int, results: dict[int, list[RankResult]], tiny_model: Path
) -> None:
    model = ModelConfig(path=str(tiny_model), dtype=dtype)
    config = LearnerConfig.model_validate(CONFIG | {"zero_stage": stage, "num_ranks": ranks})
    parameters = parameters_of(model)
    gradients = parameters * (4 if dtype == "float32" else 2) / (ranks if stage >= 2 else 1)
    wanted = held(parameters, parameters, model, config) - gradients
    for result in results[ranks]:
        trained = (result.trained if dtype == "float32" else result.bfloat16)[stage]
        assert trained.kept == pytest.approx(wanted, rel=0.02)
        assert trained.computes_in == {torch.float32 if dtype == "float32" else torch.bfloat16}


@by_ranks
@by_stage
def test_an_adapter_computes_in_the_models_dtype(stage: int, ranks: int, results: dict[int, list[RankResult]]) -> None:
    assert results[ranks][0].adapter[stage].computes_in == {torch.float32}
    assert results[ranks][0].adapter_bfloat16[stage].computes_in == {torch.bfloat16}


@by_ranks
@by_stage
def test_a_loaded_checkpoint_continues_bit_by_bit_also_in_bfloat16(
    stage: int, ranks: int, results: dict[int, list[RankResult]]
) -> None:
    found = results[ranks][0].continued_bfloat16[stage]
    assert found.from_a_checkpoint and difference(found.from_a_checkpoint, found.without_a_break) == 0


@by_ranks
@by_stage
def test_a_loaded_checkpoint_continues_bit_by_bit(
    stage: int, ranks: int, results: dict[int, list[RankResult]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    found = results[ranks][0].continued[stage]
    assert found.from_a_checkpoint and difference(found.from_a_checkpoint, found.without_a_break) == 0
    assert (found.state["progress"], found.state["version"]) == (0.3, len(GROUPS) - 1)
    assert difference(found.in_one_process, found.without_a_break) < TOLERANCE, "of another engine and number of ranks"
    exported = AutoModelForCausalLM.from_pretrained(found.exported, dtype="auto")
    assert difference(dict(exported.named_parameters()), found.from_a_checkpoint) == 0


@by_ranks
@by_stage
def test_numbers_that_are_not_finite_on_one_rank_stop_all_and_change_nothing(
    stage: int, ranks: int, results: dict[int, list[RankResult]]
) -> None:
    found = [result.spoiled[stage] for result in results[ranks]]
    for rank in found:
        assert rank.errors["loss"] == "the loss is not finite; no step was made"
        assert rank.errors["gradient"] == "the gradient is not finite; no step was made"
    assert "layers.1.mlp.up_proj" in found[0].errors["weight"]
    assert found[0].before and difference(found[0].before, found[0].after) == 0
