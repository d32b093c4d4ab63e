"""The figures of a run as Ray metrics, which Ray's Prometheus endpoints export."""

from __future__ import annotations

from ray.util.metrics import Gauge

from tlpo_ray.flow.metrics import METRICS, Values


class RayBoard:
    """A run's figures among Ray's own metrics, which its Prometheus endpoints show as `ray_tlpo_NAME`.

    Args:
        run: its name, a label of every figure.
    """

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._gauges = {
            name: Gauge(
                f"tlpo_{name}",
                description=one.plain,
                tag_keys=("run", one.label) if one.label else ("run",),
            )
            for name, one in METRICS.items()
        }
        self._shown: dict[str, set[str]] = {}
        """Labels that a figure has had: one that is gone is 0, and would else stay what it was."""

    def show(self, values: Values) -> None:
        """From now on these are the figures."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._gauges[name].set(value, tags=self._run)
                continue
            label = METRICS[name].label
            assert label is not None, f"{name} has no label"
            shown = self._shown.setdefault(name, set())
            shown |= value.keys()
            for which in shown:
                self._gauges[name].set(value.get(which, 0.0), tags={**self._run, label: which})
