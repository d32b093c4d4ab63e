"""The reports of all ranks add up to that of the update."""

from __future__ import annotations

import math

import pytest

from learner.report import StepReport, UpdateReport, merge_reports


def make_report(scale: float, grad_norm: float = 2.0) -> UpdateReport:
    step = StepReport(
        loss=1 * scale,
        surrogate=2 * scale,
        kl=3 * scale,
        clip_fraction=0.5 * scale,
        ratio_deviation=4 * scale,
        grad_norm=grad_norm,
    )
    return UpdateReport(
        version=3,
        groups=8,
        lr=1e-6,
        steps=(step, step),
        eos_mass=0.1 * scale,
        reward_mass=0.4 * scale,
        old_logprob_shift=0.2 * scale,
        policy_lag=1.5,
        seconds=7 * scale,
    )


def test_shares_of_a_mean_are_added_and_extremes_are_kept() -> None:
    report = merge_reports([make_report(0.25), make_report(0.75)])
    assert (report.version, report.groups, report.lr, report.policy_lag) == (3, 8, 1e-6, 1.5)
    assert (report.eos_mass, report.reward_mass, report.old_logprob_shift) == pytest.approx((0.1, 0.4, 0.2))
    assert report.seconds == 7 * 0.75
    assert len(report.steps) == 2
    for step in report.steps:
        assert (step.loss, step.surrogate, step.kl, step.clip_fraction) == pytest.approx((1, 2, 3, 0.5))
        assert (step.ratio_deviation, step.grad_norm) == (3.0, 2.0)


def test_the_report_of_a_single_rank_is_that_of_the_update() -> None:
    assert merge_reports([make_report(1.0)]) == make_report(1.0)


def test_metrics_leave_out_unknown_values() -> None:
    assert make_report(1.0).metrics()["grad_norm"] == 2.0
    assert "grad_norm" not in make_report(1.0, math.nan).metrics()
