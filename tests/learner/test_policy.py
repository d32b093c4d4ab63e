"""One forward pass per confusion point: the same log-probabilities and gradients as one per candidate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from learner.batch import Collate, GroupBatch, make_batch, pad_contexts
from learner.packing import pack_attention
from learner.policy import (
    candidate_logp,
    collate_fn,
    enable_activation_checkpointing,
    load_model,
    next_token_logp,
)
from tests.tiny import random_groups
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import ModelError
from tlpo_ray.flow.models import eos_token_ids
from tlpo_ray.flow.records import CandidateGroup


def load(folder: Path) -> nn.Module:
    return load_model(ModelConfig(path=str(folder), dtype="float32"), torch.float32, trainable=True)


def load_engine(folder: Path) -> TransformersEngine:
    return TransformersEngine(ModelConfig(path=str(folder)), RolloutConfig(), EngineOptions())


def batch_of(groups: list[CandidateGroup], collate: Collate = pad_contexts) -> GroupBatch:
    return make_batch(groups, [1 / len(groups)] * len(groups), collate)


def one_row_per_candidate(model: nn.Module, groups: list[CandidateGroup]) -> torch.Tensor:
    """Return [B, K] log-probabilities with every candidate in a row of its own after its context, right-padded."""
    rows = [[*group.context_ids, candidate] for group in groups for candidate in group.candidate_ids]
    longest = max(map(len, rows))
    input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in np.array(rows, dtype=object)])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logp = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits.log_softmax(-1)
    places = [(len(row) - 2, row[-1]) for row in rows]
    return torch.stack([logp[i, position, token] for i, (position, token) in enumerate(places)]).view(len(groups), -1)


def gradients(model: nn.Module, logp_BK: torch.Tensor) -> dict[str, torch.Tensor]:
    weight_BK = torch.linspace(-1, 1, logp_BK.numel()).view_as(logp_BK)
    model.zero_grad()
    (logp_BK * weight_BK).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fixture", ["tiny_model", "tiny_untied"])
def test_values_and_gradients_equal_those_of_one_row_per_candidate(
    fixture: str, packed: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(fixture)
    model, groups = load(folder), random_groups(folder, 4)
    plain = load(folder)
    assert not packed or pack_attention(model)
    logp, expected_logp = (
        candidate_logp(model, batch_of(groups, collate_fn(model))),
        one_row_per_candidate(plain, groups),
    )
    torch.testing.assert_close(logp, expected_logp, rtol=1e-5, atol=1e-5)
    computed, expected = gradients(model, logp), gradients(plain, expected_logp)
    assert computed.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, gradient in computed.items():
        difference = float((gradient - expected[name]).norm() / expected[name].norm())
        assert difference < 1e-5, f"{name}: {difference}"


def test_a_fresh_policy_reproduces_the_probabilities_of_its_groups(tiny_model: Path) -> None:
    batch = batch_of(random_groups(tiny_model, 4))
    with torch.no_grad():
        torch.testing.assert_close(candidate_logp(load(tiny_model), batch), batch.old_logp_BK, rtol=0, atol=1e-5)


def test_probabilities_do_not_depend_on_the_other_contexts_of_the_batch(tiny_model: Path) -> None:
    model, contexts = load(tiny_model), [[5, 6, 7], [1] * 40, [300]]
    with torch.no_grad():
        together = next_token_logp(model, pad_contexts(contexts))
        alone = torch.cat([next_token_logp(model, pad_contexts([context])) for context in contexts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.exp().sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("packed", [False, True])
def test_activation_checkpointing_gives_the_same_gradients_and_runs_the_layers_twice(
    packed: bool, tiny_model: Path
) -> None:
    model = load(tiny_model)
    assert not packed or pack_attention(model)
    batch = batch_of(random_groups(tiny_model, 3), collate_fn(model))
    expected = gradients(model, candidate_logp(model, batch))
    enable_activation_checkpointing(model)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model.model.layers[0].mlp.register_forward_pre_hook(count)
    recomputed = gradients(model, candidate_logp(model, batch))
    assert calls == 2
    assert not any(module.training for module in model.modules() if not list(module.children())), "dropout is on"
    for name, gradient in recomputed.items():
        torch.testing.assert_close(gradient, expected[name])


def test_a_loaded_model_is_in_evaluation_mode_and_frozen_unless_trainable(tiny_model: Path) -> None:
    config = ModelConfig(path=str(tiny_model))
    reference = load_model(config, torch.bfloat16, trainable=False)
    assert not reference.training
    assert {(p.dtype, p.requires_grad) for p in reference.parameters()} == {(torch.bfloat16, False)}
    assert all(p.requires_grad for p in load(tiny_model).parameters())


def test_end_of_text_tokens_come_from_the_generation_configuration(tiny_model: Path) -> None:
    assert eos_token_ids(load(tiny_model).generation_config.eos_token_id) == {2}
    assert eos_token_ids([2, 0]) == {2, 0}
    assert eos_token_ids(None) == frozenset()


def test_a_missing_or_damaged_model_is_reported_in_one_line(tmp_path: Path, tiny_model: Path) -> None:
    broken, cut, other, generation = (
        shutil.copytree(tiny_model, tmp_path / name) for name in ("broken", "cut", "other", "generation")
    )
    weights = (tiny_model / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(b"not weights")
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    settings = json.loads((tiny_model / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"hidden_size": 128}))
    (generation / "generation_config.json").write_text("[]")
    for path in (tmp_path / "missing", tmp_path, broken, cut, other, generation):
        for load_it in (load, load_engine):
            with pytest.raises(ModelError, match=r" cannot be loaded: ") as error:
                load_it(path)
            assert str(path) in str(error.value) and "\n" not in str(error.value)
            assert path != other or "its weights have other sizes than its config.json says" in str(error.value)
