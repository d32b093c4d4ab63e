"""DeepSpeed at every ZeRO stage, on one rank and on two, makes the same updates as the plain torch engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.memory import static_bytes
from learner.report import merge_reports
from learner.worker import LearnerWorker, build_learner
from tests.learner.ranks import (
    ADAPTER,
    STAGES,
    RankResult,
    Setting,
    Trained,
    Weights,
    export,
    run_ranks,
    train,
    weights,
)
from tests.tiny import random_groups
from tlpo_ray.config.model import Dtype, ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.flow.models import count_parameters
from tlpo_ray.flow.records import CandidateGroup

pytestmark = pytest.mark.slow

GROUPS = (8, 8, 3, 1)
"""Groups per update: the last two updates are short, and in the last one of two ranks has nothing but a filler."""
# Clipping and weight decay strong enough to show; steps so small that Adam's division does not amplify rounding.
CONFIG: dict[str, Any] = {"lr": 1e-4, "warmup": 0.0, "weight_decay": 1.0, "max_grad_norm": 0.02, "micro_batch_size": 2}
TOLERANCE = 1e-5

by_stage = pytest.mark.parametrize("stage", STAGES)
by_ranks = pytest.mark.parametrize("num_ranks", [1, 2])


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
    """Every rank's result by number of ranks."""
    root = tmp_path_factory.mktemp("zero")
    settings = [
        Setting(
            model=tiny_model, config=CONFIG, num_ranks=num_ranks, updates=updates, folder=root / f"ranks-{num_ranks}"
        )
        for num_ranks in (1, 2)
    ]
    return {setting.num_ranks: run_ranks(setting) for setting in settings}


def difference(weights: Weights, others: Weights) -> float:
    assert list(weights) == list(others)
    return max(float((weights[name].detach() - others[name].detach()).abs().max()) for name in weights)


@by_ranks
@by_stage
def test_weights_equal_those_of_the_torch_engine(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], expected: Trained, tiny_model: Path
) -> None:
    first, *others = (result.trained[stage] for result in results[num_ranks])
    assert difference(first.weights, expected.weights) < TOLERANCE
    assert difference(expected.weights, weights(export(torch_worker(tiny_model)))) > 50 * TOLERANCE
    assert first.canary_logp == pytest.approx(expected.canary_logp, abs=TOLERANCE)
    assert not any(other.weights for other in others)


@by_ranks
@pytest.mark.parametrize("stage", [1, 3])
def test_activation_checkpointing_changes_no_weight(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], expected: Trained
) -> None:
    assert difference(results[num_ranks][0].checkpointed[stage].weights, expected.weights) < TOLERANCE


@by_ranks
@by_stage
def test_merged_reports_of_all_ranks_equal_that_of_the_torch_engine(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], expected: Trained
) -> None:
    per_update = zip(*(result.trained[stage].reports for result in results[num_ranks]), strict=True)
    for report, reference in zip(map(merge_reports, per_update), expected.reports, strict=True):
        assert (report.version, report.groups, report.lr) == (reference.version, reference.groups, reference.lr)
        assert report.reward_mass == pytest.approx(reference.reward_mass, rel=1e-5)
        for step, reference_step in zip(report.steps, reference.steps, strict=True):
            for name in ("loss", "surrogate", "kl", "clip_fraction", "ratio_deviation"):
                assert getattr(step, name) == pytest.approx(getattr(reference_step, name), rel=1e-3, abs=1e-5), name
            if stage == 0:
                assert math.isnan(step.grad_norm) and "grad_norm" not in report.metrics()
            else:
                assert step.grad_norm == pytest.approx(reference_step.grad_norm, rel=1e-4)
                assert step.grad_norm > CONFIG["max_grad_norm"], "nothing was clipped"


@by_ranks
@by_stage
def test_bfloat16_keeps_float32_master_weights(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], tiny_model: Path
) -> None:
    trained = results[num_ranks][0].bfloat16[stage]
    start = weights(export(torch_worker(tiny_model, "bfloat16")))
    assert {tensor.dtype for tensor in trained.weights.values()} == {torch.bfloat16}
    assert all(bool(tensor.isfinite().all()) for tensor in trained.weights.values())
    before, after = start["model.embed_tokens.weight"], trained.weights["model.embed_tokens.weight"]
    # In this range bfloat16 numbers are 5e-4 apart: each of the eight steps, 1e-4 at most, would be rounded away.
    large = (before.abs() > 1 / 16) & (before.abs() < 1 / 8)
    assert float((after != before)[large].float().mean()) > 0.1
    assert trained.reports[0].steps[0].ratio_deviation < 0.2


@by_ranks
@by_stage
def test_an_adapter_equals_that_of_the_torch_engine(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], adapter: Trained
) -> None:
    single = results[num_ranks][0].adapter[stage].weights
    assert single and all(".lora_" in name for name in single)
    assert difference(single, adapter.weights) < TOLERANCE
    halved = results[num_ranks][0].adapter_bfloat16[stage].weights
    assert {tensor.dtype for tensor in halved.values()} == {torch.bfloat16}
    # Two roundings to 8 bits: of weights up to 0.1, and of the activations that the steps, 1e-4 at most, came from.
    assert difference({name: halved[name].float() for name in single}, single) < 2e-3


@pytest.mark.parametrize("stage", [1, 2])
def test_a_single_rank_in_float32_learns_the_same_without_zero(
    stage: int, results: dict[int, list[RankResult]]
) -> None:
    trained = results[1][0].trained
    assert difference(trained[0].weights, trained[stage].weights) < 1e-6
    for ranks, dtype, expected in ((1, "float32", 0), (1, "bfloat16", stage), (2, "float32", stage)):
        config = LearnerConfig.model_validate(CONFIG | {"zero_stage": stage, "num_ranks": ranks})
        assert config.for_dtype(dtype).zero_stage == expected


@by_ranks
def test_with_stage_3_no_rank_ever_holds_a_full_model(num_ranks: int, results: dict[int, list[RankResult]]) -> None:
    for result in results[num_ranks]:
        assert result.full_sizes[3] == [0, 0], "policy and reference"
        assert min(result.full_sizes[2]) > 0


@by_ranks
@by_stage
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rank_holds_as_many_bytes_as_predicted(
    dtype: Dtype, stage: int, num_ranks: int, results: dict[int, list[RankResult]], tiny_model: Path
) -> None:
    model = ModelConfig(path=str(tiny_model), dtype=dtype)
    config = LearnerConfig.model_validate(CONFIG | {"zero_stage": stage, "num_ranks": num_ranks})
    parameters = count_parameters(model)
    gradients = parameters * (4 if dtype == "float32" else 2) / (num_ranks if stage >= 2 else 1)
    predicted = static_bytes(parameters, parameters, model, config) - gradients
    for result in results[num_ranks]:
        trained = (result.trained if dtype == "float32" else result.bfloat16)[stage]
        assert trained.static_bytes == pytest.approx(predicted, rel=0.02)
        assert trained.policy_dtypes == {torch.float32 if dtype == "float32" else torch.bfloat16}


@by_ranks
@by_stage
def test_with_an_adapter_the_policy_has_the_dtype_of_the_model(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]]
) -> None:
    assert results[num_ranks][0].adapter[stage].policy_dtypes == {torch.float32}
    assert results[num_ranks][0].adapter_bfloat16[stage].policy_dtypes == {torch.bfloat16}


@by_ranks
@by_stage
def test_a_loaded_checkpoint_continues_bit_by_bit_in_bfloat16_too(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]]
) -> None:
    resumed = results[num_ranks][0].resumed_bfloat16[stage]
    assert resumed.from_checkpoint and difference(resumed.from_checkpoint, resumed.uninterrupted) == 0


@by_ranks
@by_stage
def test_a_loaded_checkpoint_continues_bit_by_bit(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    resumed = results[num_ranks][0].resumed[stage]
    assert resumed.from_checkpoint and difference(resumed.from_checkpoint, resumed.uninterrupted) == 0
    assert resumed.version == len(GROUPS) - 1
    assert difference(resumed.in_one_process, resumed.uninterrupted) < TOLERANCE, "another trainer and number of ranks"
    exported = AutoModelForCausalLM.from_pretrained(resumed.exported, dtype="auto")
    assert difference(dict(exported.named_parameters()), resumed.from_checkpoint) == 0


@by_ranks
@by_stage
def test_non_finite_numbers_on_one_rank_stop_all_ranks_and_change_nothing(
    stage: int, num_ranks: int, results: dict[int, list[RankResult]]
) -> None:
    outcomes = [result.non_finite[stage] for result in results[num_ranks]]
    for rank in outcomes:
        assert rank.errors["loss"] == "the loss is not finite; no step was made"
        assert rank.errors["gradient"] == "the gradient is not finite; no step was made"
    assert "layers.1.mlp.up_proj" in outcomes[0].errors["weight"]
    assert outcomes[0].before and difference(outcomes[0].before, outcomes[0].after) == 0
