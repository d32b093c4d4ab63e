"""A run's metrics as Ray metrics, which Ray's Prometheus endpoints export as `ray_tlpo_NAME`."""

from __future__ import annotations

from ray.util.metrics import Gauge

from tlpo_ray.flow.metrics import METRICS, Values


class RayMetrics:
    """One Ray gauge per metric, labelled with the run.

    Args:
        run: Name of the run.
    """

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._gauges = {
            name: Gauge(
                f"tlpo_{name}",
                description=metric.plain,
                tag_keys=("run", metric.label) if metric.label else ("run",),
            )
            for name, metric in METRICS.items()
        }
        self._labels_seen: dict[str, set[str]] = {}
        """Label values by metric. One that has disappeared is set to 0: a gauge would keep its last value."""

    def set(self, values: Values) -> None:
        """Set the current values; metrics that are left out keep theirs."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._gauges[name].set(value, tags=self._tags)
                continue
            label = METRICS[name].label
            assert label is not None, f"{name} has no label"
            seen = self._labels_seen.setdefault(name, set())
            seen |= value.keys()
            for labelled in seen:
                self._gauges[name].set(value.get(labelled, 0.0), tags={**self._tags, label: labelled})
