"""A learner rank on the plain torch engine: updates, publishing, checkpoints, export."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.batch import make_batch, pack_contexts
from learner.checkpoint import begin, checkpoints, commit, partial, read_state, writing
from learner.policy import Policy, candidate_logp
from learner.publish import Publisher
from learner.worker import LearnerWorker, build_learner
from tests.tiny import CANDIDATES, random_groups
from tlpo_ray.config.run import LearnerConfig, ModelConfig
from tlpo_ray.errors import ConfigError, NonFiniteError, ResourceError, UserError
from tlpo_ray.flow.weights import Bucket, WeightUpdate, from_wire

CONTEXT = tuple(range(10, 22))
MIB = 1 << 20


def make_learner(folder: Path, dtype: str = "float32", **changes: Any) -> LearnerWorker:
    config = LearnerConfig.model_validate({"engine": "torch", "lr": 1e-3, "warmup": 0.0} | changes)
    return build_learner(ModelConfig(path=str(folder), dtype=dtype), config, seed=0)


def published(worker: LearnerWorker, max_bytes: int = MIB) -> WeightUpdate:
    update = worker.publish(Publisher(max_bytes), CONTEXT)
    assert update is not None
    return update


def weights(worker: LearnerWorker) -> dict[str, Tensor]:
    """A copy of the policy's weights."""
    buckets: list[Bucket] = list(published(worker).steps[-1].buckets)
    return {name: from_wire(array).clone() for bucket in buckets for name, array in bucket}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_two_iterations_are_two_optimizer_steps_with_the_old_policy_held_fixed(tiny_model: Path) -> None:
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


def test_repair_takes_the_old_policy_from_the_learner_s_own_row(tiny_model: Path) -> None:
    """Groups of version 0 at a learner of version 1, against the same groups as version 1 would have probed them."""
    groups = random_groups(tiny_model, 8)
    repaired, probed, stale = (
        make_learner(tiny_model, recompute_old_logprobs=repair, beta=0.0) for repair in (True, False, False)
    )
    for worker in (repaired, probed, stale):
        worker.update(groups, 0.0)
    with torch.no_grad():
        now_BK = candidate_logp(probed._engine.policy(), make_batch(groups, [1 / 8] * 8, pack_contexts))
    fresh = [replace(group, old_logp=row.numpy()) for group, row in zip(groups, now_BK, strict=True)]
    report, expected, other = repaired.update(groups, 0.0), probed.update(fresh, 0.0), stale.update(groups, 0.0)
    assert report.steps[0].ratio_deviation == 0 and other.steps[0].ratio_deviation > 0.01
    assert report.repaired > 0.01 and expected.repaired == other.repaired == 0
    assert report.steps[1].surrogate == pytest.approx(expected.steps[1].surrogate, rel=1e-3)
    found, wanted, unlike = weights(repaired), weights(probed), weights(stale)
    assert max(float((found[name] - wanted[name]).abs().max()) for name in found) < 1e-4
    assert max(float((found[name] - unlike[name]).abs().max()) for name in found) > 5e-4


def test_updates_move_probability_from_confused_to_clean_candidates(tiny_model: Path) -> None:
    groups = random_groups(tiny_model, 8)
    worker = make_learner(tiny_model, lr=2e-4)

    def clean_share() -> Tensor:
        batch = make_batch(groups, [1 / 8] * 8, pack_contexts)
        with torch.no_grad():
            share_BK = candidate_logp(worker._engine.policy(), batch).softmax(dim=1)
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


def test_groups_without_signal_change_nothing_when_nothing_else_pulls(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0, weight_decay=0)
    before = weights(worker)
    groups = [replace(group, rewards=np.ones(CANDIDATES, np.float32)) for group in random_groups(tiny_model, 4)]
    report = worker.update(groups, 0.0)
    assert report.steps[-1].grad_norm == 0 and report.reward_mass == pytest.approx(1)
    assert same(before, weights(worker))


def test_without_beta_no_reference_is_loaded(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0)
    assert worker._reference is None
    assert worker.update(random_groups(tiny_model, 4), 0.0).steps[-1].kl == 0


def test_weight_decay_shrinks_matrices_and_leaves_norms(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, beta=0, weight_decay=0.5, lr=0.1, num_iterations=1)
    before = weights(worker)
    groups = [replace(group, rewards=np.ones(CANDIDATES, np.float32)) for group in random_groups(tiny_model, 4)]
    worker.update(groups, 0.0)
    for name, tensor in weights(worker).items():
        expected = before[name] if "norm" in name else before[name] * (1 - 0.1 * 0.5)
        torch.testing.assert_close(tensor, expected, msg=name)


def test_the_report_tells_lag_rate_and_masses(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, lr=1e-3, lr_min=1e-4)
    groups = random_groups(tiny_model, 3)
    worker.update(groups, 0.5)
    report = worker.update([*groups[:2], replace(groups[2], sampling_version=1)], 1.0)
    assert report.version_lag == pytest.approx(2 / 3)
    assert report.lr == 1e-4
    old = [np.exp(group.old_logp) for group in groups]
    eos = [policy[group.candidate_ids == 2].sum() for policy, group in zip(old, groups, strict=True)]
    good = [policy[group.rewards > 0].sum() / policy.sum() for policy, group in zip(old, groups, strict=True)]
    assert report.eos_mass == pytest.approx(np.mean(eos), abs=1e-6)
    assert report.reward_mass == pytest.approx(np.mean(good), rel=1e-5)
    assert report.metrics().keys() == {
        *("lr", "eos_mass", "reward_mass", "version_lag", "loss", "surrogate", "kl", "clip_fraction"),
        *("ratio_deviation", "grad_norm", "repaired", "update_time"),
    }


@pytest.mark.parametrize(("fixture", "extra"), [("tiny_model", set()), ("tiny_untied", {"lm_head.weight"})])
def test_published_buckets_hold_every_parameter_once_and_the_canary_proves_them(
    fixture: str, extra: set[str], request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModelForCausalLM

    folder = request.getfixturevalue(fixture)
    worker = make_learner(folder)
    worker.update(random_groups(folder, 4), 0.0)
    update = published(worker, max_bytes=100_000)
    names = [name for bucket in update.steps[-1].buckets for name, _ in bucket]
    assert len(update.steps[-1].buckets) > 3 and len(names) == len(set(names))
    assert {name for name in names if "lm_head" in name} == extra
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    parameters = dict(other.named_parameters())
    assert names == list(parameters)
    canary = update.canary
    assert update.version == 1 and canary is not None and canary.context_ids == CONTEXT
    assert difference(other, update) > 1e-3, "the canary does not tell the old weights from the new"
    with torch.no_grad():
        for bucket in update.steps[-1].buckets:
            for name, array in bucket:
                parameters[name].copy_(from_wire(array))
    assert difference(other, update) <= 1e-5


def difference(model: Any, update: WeightUpdate) -> float:
    assert update.canary is not None
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([update.canary.context_ids])).logits[0, -1].log_softmax(-1)
    return update.canary.difference(range(len(logp)), logp.tolist())


def test_bfloat16_travels_as_bfloat16_while_master_weights_stay_float32(tiny_model: Path) -> None:
    worker = make_learner(tiny_model, "bfloat16", lr=1e-4)
    before = weights(worker)
    assert {tensor.dtype for tensor in before.values()} == {torch.bfloat16}
    for _ in range(3):
        report = worker.update(random_groups(tiny_model, 8), 0.0)
    assert 0 < report.steps[-1].ratio_deviation < 1
    assert not same(before, weights(worker))


def test_a_loss_that_is_not_finite_changes_no_weight(tiny_model: Path) -> None:
    worker = make_learner(tiny_model)
    good = random_groups(tiny_model, 4)
    worker.update(good, 0.0)
    before, bad = weights(worker), replace(good[0], old_logp=np.full(CANDIDATES, np.nan, np.float32))
    with pytest.raises(NonFiniteError, match="the loss"):
        worker.update([*good[1:], bad], 0.0)
    assert same(before, weights(worker)) and worker.version == 1
    worker.update(good, 0.0)
    other = make_learner(tiny_model)
    other.update(good, 0.0)
    other.update(good, 0.0)
    assert same(weights(other), weights(worker)), "gradients of the failed update leaked into the next"


def test_a_gradient_that_is_not_finite_changes_no_weight(tiny_model: Path) -> None:
    worker = make_learner(tiny_model)
    before = weights(worker)

    def loss(policy: Policy) -> Tensor:
        logits: Tensor = policy(input_ids=torch.tensor([[1, 2, 3]])).logits
        return (logits * 0).abs().sqrt().sum()  # 0, but its derivative is 0 · ∞

    with pytest.raises(NonFiniteError, match="the gradient"):
        worker._engine.step([loss], 1e-3)
    assert same(before, weights(worker))


def test_weights_that_are_not_finite_are_never_published(tiny_model: Path) -> None:
    worker = make_learner(tiny_model)
    module = worker._engine.policy().__self__._module
    with torch.no_grad():
        module.model.layers[1].mlp.up_proj.weight[3, 5] = torch.inf
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.up_proj"):
        worker.publish(Publisher(MIB), CONTEXT)


def test_a_loaded_checkpoint_continues_bit_by_bit(tiny_model: Path, tmp_path: Path) -> None:
    batches = [random_groups(tiny_model, 8, seed=seed) for seed in range(3)]
    worker = make_learner(tiny_model)
    for groups in batches[:2]:
        worker.update(groups, 0.3)
    worker.save(tmp_path, {"progress": 0.3}, keep_last=2)
    expected_report = worker.update(batches[2], 0.6)
    other = make_learner(tiny_model)
    (folder,) = checkpoints(tmp_path)
    state = other.load(folder)
    assert (state["progress"], state["version"], other.version) == (0.3, 2, 2)
    report = other.update(batches[2], 0.6)
    assert replace(report, seconds=0) == replace(expected_report, seconds=0)
    assert same(weights(other), weights(worker))


def test_only_the_last_checkpoints_are_kept_and_a_killed_save_leaves_none(tiny_model: Path, tmp_path: Path) -> None:
    worker = make_learner(tiny_model)
    for version in (1, 2, 3):
        worker.version = version
        worker.save(tmp_path, {}, keep_last=2)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["update-00000002", "update-00000003"]
    begin(tmp_path, 4)
    (partial(tmp_path, 4) / "state-00000.safetensors").write_bytes(b"half a checkpo")
    for version in (1, 3, 5):  # half removed: the state goes first
        (tmp_path / f"update-{version:08d}").mkdir(exist_ok=True)
        (tmp_path / f"update-{version:08d}" / "state.json").unlink(missing_ok=True)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["update-00000002"]
    worker.save(tmp_path, {"again": 1}, keep_last=2)  # the same version again, after the killed save
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["update-00000002", "update-00000003"]
    assert json.loads((checkpoints(tmp_path)[-1] / "state.json").read_text())["again"] == 1
    assert make_learner(tiny_model).load(checkpoints(tmp_path)[-1])["version"] == 3


def test_a_version_can_be_saved_again_over_what_is_left_of_it(tmp_path: Path) -> None:
    begin(tmp_path, 1)
    (tmp_path / "update-00000001").mkdir()  # by who was killed between here and there
    commit(tmp_path, 1, {"again": 1}, keep_last=1)
    assert json.loads((checkpoints(tmp_path)[0] / "state.json").read_text())["again"] == 1


def test_what_is_no_checkpoint_or_another_layouts_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    worker = make_learner(tiny_model)
    with pytest.raises(UserError, match="holds no checkpoint"):
        worker.load(tmp_path)
    worker.save(tmp_path, {}, keep_last=1)
    (folder,) = checkpoints(tmp_path)
    with pytest.raises(UserError, match="holds all weights, this run trains an adapter of rank 4"):
        read_state(folder, "an adapter of rank 4")
    (folder / "state.json").write_text((folder / "state.json").read_text().replace("all weights", "all the weights"))
    with pytest.raises(UserError, match=r"holds no checkpoint: state.json is not there or damaged"):
        worker.load(folder)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond a few KB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing_half_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker = make_learner(tiny_model)
    (tmp_path / "file").write_text("")
    root, model = tmp_path / "checkpoints", tmp_path / "model"
    for act, what in (
        (lambda: worker.save(tmp_path / "file" / "checkpoints", {}, keep_last=1), "a checkpoint"),
        (lambda: worker.export(tmp_path / "file" / "model"), "the model"),
        (lambda: worker.save(root, {}, keep_last=1), "a checkpoint"),
        (lambda: worker.export(model), "the model"),
    ):
        with full_disk(), pytest.raises(ResourceError, match=f"cannot write {what}") as error:
            act()
        assert "\n" not in str(error.value)
    assert not checkpoints(root) and not model.exists()


def test_a_rank_that_is_gone_while_others_write_is_no_full_disk() -> None:
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"), writing("a checkpoint"):
        raise RuntimeError("Connection closed by peer")  # what gloo raises in the ranks that are left


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fixture", ["tiny_model", "tiny_untied"])
def test_an_exported_model_loads_with_the_same_weights_and_chat_template(
    fixture: str, dtype: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = request.getfixturevalue(fixture)
    worker = make_learner(folder, dtype)
    worker.update(random_groups(folder, 4), 0.0)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "leftover").write_text("of an earlier export")
    worker.export(tmp_path / "model")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert same(dict(exported.named_parameters()), weights(worker))
    assert (exported.lm_head.weight is exported.model.embed_tokens.weight) == (fixture == "tiny_model")
    assert str(exported.dtype) == f"torch.{dtype}"
    assert exported.generation_config.eos_token_id == 2
    talk = [{"role": "user", "content": "일본의 통화는?"}]
    old, new = (AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path / "model"))
    assert old.apply_chat_template(talk)["input_ids"] == new.apply_chat_template(talk)["input_ids"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "leftover").exists()


def test_the_torch_engine_refuses_to_pass_for_a_group(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"learner\.ranks is 2"):
        build_learner(ModelConfig(path=str(tiny_model)), LearnerConfig(engine="torch"), seed=0, rank=1, ranks=2)
