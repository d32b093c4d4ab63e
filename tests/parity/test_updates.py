"""Two complete updates of a linear policy, two iterations each, equal those in NumPy: schedule, clipping, AdamW."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learner.policy import candidate_logp
from learner.torch_engine import TorchEngine
from learner.worker import LearnerWorker
from tests.parity import formulas
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.flow.records import CandidateGroup

VOCABULARY, CANDIDATES = 12, 4
REWARDS = ([1, -1, 1, 1], [-1, -1, 1, -1], [1, 1, 1, -1])


class Linear(nn.Module):
    """The policy of `formulas.LinearPolicy` as a causal language model."""

    def __init__(self, weight: formulas.Float64, bias: formulas.Float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight).float())
        self.bias = nn.Parameter(torch.from_numpy(bias).float())

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.weight[input_ids[:, -1:]] + self.bias)


def make_group(group: formulas.Group, index: int) -> CandidateGroup:
    context, candidates, old, rewards = group
    return CandidateGroup(
        prompt_index=index, prompt_id=f"p{index}", language="ko", context_ids=np.array([1, 2, context], np.int32),
        prompt_length=2, candidate_ids=np.array(candidates, np.int32), old_logp=np.log(old).astype(np.float32),
        rewards=np.array(rewards, np.float32), sampling_version=0, detector_version="1",
        response="", span_start=0, span_end=0, span_kind="", lookaheads=("",) * CANDIDATES,
    )  # fmt: skip


def test_two_updates_equal_those_in_numpy() -> None:
    config = LearnerConfig(
        engine="torch", lr=0.3, lr_min=0.01, warmup=0.25, max_grad_norm=0.05, beta=0.1, micro_batch_size=2
    )
    random = np.random.default_rng(0)
    weight, bias = random.normal(0, 1, (VOCABULARY, VOCABULARY)), random.normal(0, 0.5, VOCABULARY)
    ours = Linear(weight, bias)
    theirs = formulas.LinearPolicy(ours.weight.detach().double().numpy(), ours.bias.detach().double().numpy())
    # The reference is another policy than the one trained, as in a run that resumes from a checkpoint.
    theirs.reference = [p + random.normal(0, 0.3, p.shape) for p in theirs.reference]
    model, reference = ModelConfig(path="none", dtype="float32"), partial(candidate_logp, Linear(*theirs.reference))
    worker = LearnerWorker(TorchEngine(ours, model, config), reference, model, config, eos_ids=())

    for progress in (0.1, 0.6):
        groups: list[formulas.Group] = []
        for context, rewards in zip((3, 5, 7), REWARDS, strict=True):
            policy = theirs.probabilities(context)
            top = [int(token) for token in np.argsort(-policy)[:CANDIDATES]]
            groups.append((context, top, [float(policy[token]) for token in top], rewards))
        report = worker.update([make_group(group, index) for index, group in enumerate(groups)], progress)
        lr = formulas.learning_rate(config.lr, config.lr_min, config.warmup, progress)
        norms = [
            theirs.step(
                theirs.gradient(groups, config.clip_low, config.clip_high, config.beta),
                lr, config.betas, config.weight_decay, config.max_grad_norm,
            )
            for _ in range(config.num_iterations)
        ]  # fmt: skip
        assert report.lr == pytest.approx(lr)
        assert [step.grad_norm for step in report.steps] == pytest.approx(norms, rel=1e-4)
        assert min(norms) > config.max_grad_norm, "the gradient was not clipped"
        np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.parameters[0], rtol=0, atol=2e-5)
        np.testing.assert_allclose(ours.bias.detach().numpy(), theirs.parameters[1], rtol=0, atol=2e-5)
    assert report.steps[-1].clip_fraction > 0 and report.steps[0].clip_fraction == 0
    assert float((ours.weight.detach() - torch.from_numpy(weight)).abs().max()) > 0.1
