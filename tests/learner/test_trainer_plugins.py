"""A trainer and an advantage form of another package are added by entry points alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from learner.engine import RankInfo
from learner.worker import build_learner
from tests.learner.learners import equal, make_learner, weights
from tests.tiny import random_groups
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import ADVANTAGES, load_plugin, plugins
from tlpo_ray.config.run import LearnerConfig
from tlpo_ray.errors import ConfigError

MODULE = "outside_learning"
SOURCE = '''
from learner.torch_engine import TorchEngine


class CountingEngine(TorchEngine):
    """A trainer that is allowed more than one rank, and counts its steps."""

    display_name = "a trainer from outside"
    is_distributed = True

    def __init__(self, module, model, config, rank_info):
        super().__init__(module, model, config, rank_info)
        self.rank_info = rank_info
        self.num_steps = 0

    def step(self, losses, lr):
        self.num_steps += 1
        return super().step(losses, lr)


def sign(logp_BK, rewards_BK):
    """Advantage form: plus or minus 1."""
    return rewards_BK.sign()
'''
ENTRY_POINTS = f"""
[tlpo_ray.trainers]
counting = {MODULE}:CountingEngine
broken = {MODULE}:Missing

[tlpo_ray.advantages]
sign = {MODULE}:sign
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a trainer `counting`, one called `broken`, and an advantage form `sign`."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    metadata = tmp_path / "outside_learning-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-learning\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.cache_clear()
    yield
    sys.modules.pop(MODULE, None)
    plugins.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_trainer_of_another_package_makes_an_update(tiny_model: Path) -> None:
    groups = random_groups(tiny_model, 4)
    model = ModelConfig(path=str(tiny_model), dtype="float32")
    config = LearnerConfig(engine="counting", lr=1e-3, warmup=0.0)
    rank_info = RankInfo(rank=0, num_ranks=2)
    worker = build_learner(model, config, seed=0, rank_info=rank_info)
    report = worker.update(groups, 0.0)
    assert (report.version, len(report.steps)) == (1, config.num_iterations)
    assert worker.engine.display_name == "a trainer from outside"
    assert worker.engine.num_steps == config.num_iterations  # type: ignore[attr-defined]
    assert worker.engine.rank_info == rank_info  # type: ignore[attr-defined]

    expected = make_learner(tiny_model)
    expected.update(groups, 0.0)
    assert equal(weights(worker), weights(expected)), "it makes the same steps as the class that it extends"


@pytest.mark.usefixtures("installed")
def test_an_advantage_form_of_another_package_is_what_the_learner_optimizes(tiny_model: Path) -> None:
    rewards = torch.tensor([[0.5, -2.0, 0.0]])
    assert load_plugin(ADVANTAGES, "sign")(torch.zeros(1, 3), rewards).tolist() == [[1, -1, 0]]
    groups = random_groups(tiny_model, 4)
    worker = make_learner(tiny_model, advantage="sign", beta=0.0, num_iterations=1)
    report = worker.update(groups, 0.0)
    # The ratio is 1 in the first step: the surrogate of each candidate is its advantage.
    expected = sum(float(torch.from_numpy(group.rewards).sign().mean()) for group in groups) / len(groups)
    assert report.steps[0].surrogate == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("installed")
def test_a_trainer_that_cannot_be_imported_is_named(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"learner\.engine broken is outside_learning:Missing, .*cannot be imported"):
        build_learner(ModelConfig(path=str(tiny_model)), LearnerConfig(engine="broken"), seed=0)


def test_plugins_that_are_not_installed_are_errors_that_list_the_installed_ones() -> None:
    with pytest.raises(ValueError, match="expected one of deepspeed, torch; did you mean torch"):
        LearnerConfig(engine="toch")
    with pytest.raises(ValueError, match="expected one of grpo, tlpo, unweighted; did you mean tlpo"):
        LearnerConfig(advantage="tlop")
