"""A learner of an adapter: the frozen model is its reference, little travels, and what is exported is a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from actors.hf_engine import TransformersEngine
from learner.batch import make_batch, pack_contexts, pad_contexts
from learner.policy import candidate_logp, load_model
from learner.publish import Publisher
from learner.worker import LearnerWorker, build_learner
from tests.tiny import random_groups
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import LearnerConfig, LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.flow.weights import WeightUpdate, check_canary

LORA = LoraConfig(rank=4, alpha=12)
CONTEXT = tuple(range(10, 22))


def model_config(folder: Path, dtype: str = "float32") -> ModelConfig:
    return ModelConfig(path=str(folder), dtype=dtype, max_context=64)


def make_learner(folder: Path, dtype: str = "float32", **changes: Any) -> LearnerWorker:
    config = LearnerConfig.model_validate({"engine": "torch", "lr": 1e-2, "warmup": 0.0, "lora": LORA} | changes)
    return build_learner(model_config(folder, dtype), config, seed=0)


def published(worker: LearnerWorker) -> WeightUpdate:
    update = worker.publish(Publisher(1 << 20), CONTEXT)
    assert update is not None
    return update


def logp_of(worker: LearnerWorker, groups: list[Any]) -> Tensor:
    with torch.no_grad():
        return candidate_logp(
            worker._engine.policy(), make_batch(groups, [1 / len(groups)] * len(groups), pack_contexts)
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_adapter_learns_and_the_reference_is_the_model_without_it(dtype: str, tiny_model: Path) -> None:
    worker, groups = make_learner(tiny_model, dtype), random_groups(tiny_model, 8)
    frozen = {n: t.clone() for n, t in worker._engine.tensors(frozen=True) if ".lora_" not in n}
    before = logp_of(worker, groups)
    for _ in range(3):
        worker.update(groups, 0.0)
    assert float((logp_of(worker, groups) - before).abs().max()) > 0.5
    batch = make_batch(groups, [1 / 8] * 8, pack_contexts)
    assert worker._reference is not None
    with torch.no_grad():
        torch.testing.assert_close(worker._reference(batch), before, rtol=0, atol=1e-5)
    for name, tensor in worker._engine.tensors(frozen=True):
        assert ".lora_" in name or torch.equal(tensor, frozen[name])


def test_what_travels_is_the_adapter_and_an_engine_with_it_is_the_policy(tiny_model: Path) -> None:
    worker, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    engine = TransformersEngine(model_config(tiny_model), RolloutConfig(engine="transformers", max_new_tokens=8), LORA)
    for version in range(3):
        if version:
            worker.update(groups, 0.0)
        update = published(worker)
        (step,) = update.steps
        assert step.nbytes < (tiny_model / "model.safetensors").stat().st_size / 4
        engine.load_weights(step.buckets, version)
        assert update.canary is not None
        (found,) = engine.candidates([CONTEXT], 16)
        check_canary(update.canary, found.token_ids.tolist(), found.logp.tolist(), 1e-4)


def test_the_exported_model_is_plain_and_answers_as_the_policy_does_and_so_does_the_adapter(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    for _ in range(3):
        worker.update(groups, 0.0)
    worker.export(tmp_path / "model")
    plain = load_model(model_config(tmp_path / "model"), torch.float32, trainable=False)
    start = load_model(model_config(tiny_model), torch.float32, trainable=False)
    assert dict(plain.named_parameters()).keys() == dict(start.named_parameters()).keys()
    with torch.no_grad():
        found = candidate_logp(plain, make_batch(groups, [1 / 8] * 8, pad_contexts))
    torch.testing.assert_close(found, logp_of(worker, groups), rtol=0, atol=1e-4)
    with_adapter = PeftModel.from_pretrained(start, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = candidate_logp(with_adapter, make_batch(groups, [1 / 8] * 8, pad_contexts))
    torch.testing.assert_close(found, logp_of(worker, groups), rtol=0, atol=1e-4)


def test_a_checkpoint_continues_and_belongs_to_its_adapter(tiny_model: Path, tmp_path: Path) -> None:
    one, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    one.update(groups, 0.0)
    one.save(tmp_path, {}, keep_last=1)
    one.update(groups, 0.5)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    other = make_learner(tiny_model)
    other.load(folder)
    other.update(groups, 0.5)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one._engine.tensors(), other._engine.tensors(), strict=True))
    with pytest.raises(UserError, match="an adapter of rank 4"):
        make_learner(tiny_model, lora=None).load(folder)


def test_an_adapter_is_not_broadcast() -> None:
    with pytest.raises(ConfigError, match=r"learner\.lora needs flow\.weight_transfer object_store, it is gloo"):
        load_config("quickstart", ["model.path=.", "learner.lora={rank: 4}", "flow.weight_transfer=gloo"])
