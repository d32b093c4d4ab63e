"""Every metric has a name, a meaning, and a plain form."""

from __future__ import annotations

from tlpo_ray.flow.metrics import METRICS, RENAMED_METRICS


def test_every_metric_has_a_meaning_that_is_also_readable_in_ascii() -> None:
    for name, metric in METRICS.items():
        assert name.isidentifier() and metric.help and metric.plain.isascii(), name
        assert metric.label is None or not metric.kept, f"{name}: the log keeps one value per update"


def test_former_names_lead_to_metrics_of_today() -> None:
    assert set(RENAMED_METRICS.values()) <= METRICS.keys()
    assert not RENAMED_METRICS.keys() & METRICS.keys()
