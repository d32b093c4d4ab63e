"""The learning rate over a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from learner.schedule import learning_rate
from tlpo_ray.config.run import LearnerConfig

CONFIG = LearnerConfig(lr=5e-7, lr_min=5e-8, warmup=0.1)


def test_it_warms_up_linearly_and_ends_at_lr_min() -> None:
    assert learning_rate(CONFIG, 0.0) == 5e-8
    assert learning_rate(CONFIG, 0.05) == approx(2.5e-7)
    assert learning_rate(CONFIG, 0.1) == approx(5e-7)
    assert learning_rate(CONFIG, 0.55) == approx((5e-7 + 5e-8) / 2)
    assert learning_rate(CONFIG, 1.0) == 5e-8


def test_it_starts_at_the_peak_without_warm_up_and_ends_there_with_warm_up_alone() -> None:
    assert learning_rate(LearnerConfig(lr=1e-4, lr_min=0, warmup=0), 0.0) == 1e-4
    assert learning_rate(LearnerConfig(lr=1e-4, lr_min=0, warmup=1), 0.5) == approx(5e-5)


shares = st.floats(0, 1)


@given(shares, shares, shares)
def test_it_rises_until_the_end_of_the_warm_up_and_falls_after_it(warmup: float, first: float, second: float) -> None:
    config = LearnerConfig(lr=1.0, lr_min=0.1, warmup=warmup)
    early, late = sorted((first, second))
    lr_early, lr_late = learning_rate(config, early), learning_rate(config, late)
    assert 0.1 <= lr_early <= 1.0 and 0.1 <= lr_late <= 1.0
    if late < warmup:
        assert lr_early <= lr_late
    elif early >= warmup:
        assert lr_early >= lr_late - 1e-12
