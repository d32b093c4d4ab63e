"""A learner rank on the plain torch engine: updates, and the export of weights to rollout actors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.batch import make_batch, pack_contexts
from learner.checkpoint import checkpoints
from learner.engine import RankInfo
from learner.policy import Policy, candidate_logp
from learner.weight_export import WeightExporter
from learner.worker import build_learner
from tests.learner.learners import CONTEXT, MIB, equal, export, make_learner, save, weights
from tests.tiny import CANDIDATES, random_groups
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import ConfigError, NonFiniteError
from tlpo_ray.flow.weights import WeightUpdate, from_wire


def test_two_iterations_are_two_optimizer_steps_with_a_fixed_old_policy(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, lr=3e-3)
    report = worker.update(random_groups(tiny_model, 8), 0.0)
    first, second = report.steps
    assert first.ratio_deviation <= 1e-5 and first.clip_fraction == 0
    assert second.ratio_deviation > 0.3 and second.clip_fraction > 0
    # In the first step the ratio is 1 and Σ A = 0; the reference is the policy.
    assert first.surrogate == pytest.approx(0, abs=1e-6) and first.kl == pytest.approx(0, abs=1e-6)
    assert first.grad_norm > 0
    assert second.surrogate > 0 and second.kl > 0
    assert second.loss == pytest.approx(0.04 * second.kl - second.surrogate, rel=1e-5)
    assert (report.version, worker.version, report.groups) == (1, 1, 8)


def test_recomputed_old_logprobs_are_those_of_the_learner_s_own_policy(tiny_model: Path) -> None:
    """Groups of version 0 at a learner of version 1 are as good as the same groups made by version 1."""
    groups = random_groups(tiny_model, 8)
    recomputing, up_to_date, stale = (
        make_learner(tiny_model, recompute_old_logprobs=recompute, beta=0.0) for recompute in (True, False, False)
    )
    for worker in (recomputing, up_to_date, stale):
        worker.update(groups, 0.0)
    with torch.no_grad():
        now_BK = candidate_logp(up_to_date.engine.policy(), make_batch(groups, [1 / 8] * 8, pack_contexts))
    fresh = [replace(group, old_logp=row.numpy()) for group, row in zip(groups, now_BK, strict=True)]
    report, expected = recomputing.update(groups, 0.0), up_to_date.update(fresh, 0.0)
    stale_report = stale.update(groups, 0.0)
    assert report.steps[0].ratio_deviation == 0 and stale_report.steps[0].ratio_deviation > 0.01
    assert report.old_logprob_shift > 0.01
    assert expected.old_logprob_shift == stale_report.old_logprob_shift == 0
    assert report.steps[1].surrogate == pytest.approx(expected.steps[1].surrogate, rel=1e-3)
    result = weights(recomputing)
    assert largest_difference(result, weights(up_to_date)) < 1e-4
    assert largest_difference(result, weights(stale)) > 5e-4


def largest_difference(weights: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_updates_move_probability_from_confused_to_clean_candidates(tiny_model: Path) -> None:
    groups = random_groups(tiny_model, 8)
    worker = make_learner(tiny_model, lr=2e-4)

    def clean_share() -> Tensor:
        batch = make_batch(groups, [1 / 8] * 8, pack_contexts)
        with torch.no_grad():
            share_BK = candidate_logp(worker.engine.policy(), batch).softmax(dim=1)
        return (share_BK * (batch.rewards_BK > 0)).sum(dim=1)

    before = clean_share()
    for _ in range(3):
        worker.update(groups, 0.0)
    assert bool((clean_share() > before + 0.02).all())


def test_micro_batches_of_any_size_make_the_same_update(tiny_model: Path) -> None:
    groups = random_groups(tiny_model, 7)
    results = []
    for size in (1, 3, 8):
        worker = make_learner(tiny_model, micro_batch_size=size, lr=1e-4)
        worker.update(groups, 0.0)
        results.append(weights(worker))
    for other in results[1:]:
        for name, tensor in other.items():
            torch.testing.assert_close(tensor, results[0][name], rtol=0, atol=1e-5)


def test_groups_without_signal_change_nothing_without_kl_and_weight_decay(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0, weight_decay=0)
    before = weights(worker)
    groups = [replace(group, rewards=np.ones(CANDIDATES, np.float32)) for group in random_groups(tiny_model, 4)]
    report = worker.update(groups, 0.0)
    assert report.steps[-1].grad_norm == 0 and report.reward_mass == pytest.approx(1)
    assert equal(before, weights(worker))


def test_without_beta_no_reference_is_loaded(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0)
    assert worker.reference is None
    assert worker.update(random_groups(tiny_model, 4), 0.0).steps[-1].kl == 0


def test_weight_decay_shrinks_matrices_and_leaves_norms_alone(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0, weight_decay=0.5, lr=0.1, num_iterations=1)
    before = weights(worker)
    groups = [replace(group, rewards=np.ones(CANDIDATES, np.float32)) for group in random_groups(tiny_model, 4)]
    worker.update(groups, 0.0)
    for name, tensor in weights(worker).items():
        expected = before[name] if "norm" in name else before[name] * (1 - 0.1 * 0.5)
        torch.testing.assert_close(tensor, expected, msg=name)


def test_the_report_has_lag_learning_rate_and_masses(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, lr=1e-3, lr_min=1e-4)
    groups = random_groups(tiny_model, 3)
    worker.update(groups, 0.5)
    report = worker.update([*groups[:2], replace(groups[2], sampling_version=1)], 1.0)
    assert report.policy_lag == pytest.approx(2 / 3)
    assert report.lr == 1e-4
    old = [np.exp(group.old_logp) for group in groups]
    eos = [policy[group.candidate_ids == 2].sum() for policy, group in zip(old, groups, strict=True)]
    good = [policy[group.rewards > 0].sum() / policy.sum() for policy, group in zip(old, groups, strict=True)]
    assert report.eos_mass == pytest.approx(np.mean(eos), abs=1e-6)
    assert report.reward_mass == pytest.approx(np.mean(good), rel=1e-5)
    assert report.metrics().keys() == {
        *("lr", "eos_mass", "reward_mass", "policy_lag", "loss", "surrogate", "kl", "clip_fraction"),
        *("ratio_deviation", "grad_norm", "old_logprob_shift", "update_time"),
    }


@pytest.mark.parametrize(("fixture", "extra"), [("tiny_model", set()), ("tiny_untied", {"lm_head.weight"})])
def test_exported_buckets_hold_every_parameter_once_and_the_canary_verifies_them(
    fixture: str, extra: set[str], request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModelForCausalLM

    folder = request.getfixturevalue(fixture)
    worker = make_learner(folder)
    worker.update(random_groups(folder, 4), 0.0)
    update = export(worker, max_bytes=100_000)
    names = [name for bucket in update.deltas[-1].buckets for name, _ in bucket]
    assert len(update.deltas[-1].buckets) > 3 and len(names) == len(set(names))
    assert {name for name in names if "lm_head" in name} == extra
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    parameters = dict(other.named_parameters())
    assert names == list(parameters)
    canary = update.canary
    assert update.version == 1 and canary is not None and canary.context_ids == CONTEXT
    assert difference(other, update) > 1e-3, "the canary does not distinguish old weights from new ones"
    with torch.no_grad():
        for bucket in update.deltas[-1].buckets:
            for name, array in bucket:
                parameters[name].copy_(from_wire(array))
    assert difference(other, update) <= 1e-5


def difference(model: Any, update: WeightUpdate) -> float:
    assert update.canary is not None
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([update.canary.context_ids])).logits[0, -1].log_softmax(-1)
    return update.canary.difference(range(len(logp)), logp.tolist())


def test_weights_travel_in_bfloat16_while_master_weights_stay_in_float32(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, "bfloat16", lr=1e-4)
    before = weights(worker)
    assert {tensor.dtype for tensor in before.values()} == {torch.bfloat16}
    for _ in range(3):
        report = worker.update(random_groups(tiny_model, 8), 0.0)
    assert 0 < report.steps[-1].ratio_deviation < 1
    assert not equal(before, weights(worker))


def test_a_loss_that_is_not_finite_changes_no_weight(tiny_model: Path) -> None:
    worker = make_learner(tiny_model)
    good = random_groups(tiny_model, 4)
    worker.update(good, 0.0)
    before, bad = weights(worker), replace(good[0], old_logp=np.full(CANDIDATES, np.nan, np.float32))
    with pytest.raises(NonFiniteError, match="the loss"):
        worker.update([*good[1:], bad], 0.0)
    assert equal(before, weights(worker)) and worker.version == 1
    worker.update(good, 0.0)
    other = make_learner(tiny_model)
    other.update(good, 0.0)
    other.update(good, 0.0)
    assert equal(weights(other), weights(worker)), "gradients of the failed update leaked into the next"


def test_a_gradient_that_is_not_finite_changes_no_weight(tiny_model: Path) -> None:
    worker = make_learner(tiny_model)
    before = weights(worker)

    def loss(policy: Policy) -> Tensor:
        logits: Tensor = policy(input_ids=torch.tensor([[1, 2, 3]])).logits
        return (logits * 0).abs().sqrt().sum()  # 0, but its derivative is 0 · ∞

    with pytest.raises(NonFiniteError, match="the gradient"):
        worker.engine.step([loss], 1e-3)
    assert equal(before, weights(worker))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_are_never_exported(tiny_model: Path, dtype: str, value: float) -> None:
    worker = make_learner(tiny_model, dtype)
    module = worker.engine.policy().__self__.module  # type: ignore[attr-defined]
    with torch.no_grad():
        module.model.layers[1].mlp.up_proj.weight[3, 5] = value
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.up_proj"):
        worker.export_weights(WeightExporter(MIB), CONTEXT)


def test_the_torch_engine_refuses_more_than_one_rank(tiny_model: Path) -> None:
    rank_info = RankInfo(rank=1, num_ranks=2)
    with pytest.raises(ConfigError, match=r"learner\.engine torch has one rank, learner\.num_ranks is 2: "):
        build_learner(ModelConfig(path=str(tiny_model)), LearnerConfig(engine="torch"), seed=0, rank_info=rank_info)


class CountingClock(WorkClock):
    """Counts what is noted."""

    count = 0

    def note(self) -> None:
        self.count += 1


def test_every_micro_batch_step_and_tensor_is_progress(tiny_model: Path, tmp_path: Path) -> None:
    """A slow update, export or checkpoint is not taken for one that hangs."""
    worker = make_learner(tiny_model, micro_batch_size=2, num_iterations=3)
    worker.clock = clock = CountingClock()

    def noted() -> int:
        count, clock.count = clock.count, 0
        return count

    worker.update(random_groups(tiny_model, 8), 0.0)
    batches, steps = 4, 3
    assert noted() == batches + steps * (2 * batches + 1), "the reference; forward and backward passes, and a step"
    buckets = export(worker, max_bytes=20_000).deltas[-1].buckets
    assert noted() == len(buckets) > 2
    save(worker, tmp_path / "checkpoints", keep_last=1)
    tensors, files = len(dict(worker.engine.state_tensors())), 1
    assert 10 < tensors <= noted() <= tensors + files
    worker.load(checkpoints(tmp_path / "checkpoints")[0])
    assert noted() >= tensors, "`steps` is read once per parameter"
    worker.export(tmp_path / "model")
    assert noted() == len(dict(worker.engine.tensors()))
