"""Write grafana-dashboard.json next to this file, and kuberay/alerts.yaml, the Kubernetes version of alerts.yml.

Usage: `python deploy/monitoring/make_dashboard.py`. Each panel is one line of `ROWS`; Grafana shows the meaning of the
panel's metrics (`tlpo_ray/flow/metrics.py`) as its description.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from tlpo_ray.flow.metrics import METRICS

DASHBOARD = Path(__file__).with_name("grafana-dashboard.json")
ALERTS = Path(__file__).with_name("alerts.yml")
MANIFEST = Path(__file__).parent.with_name("kuberay") / "alerts.yaml"
PROMETHEUS_RULE = """# For the Prometheus operator. Generated from deploy/monitoring/alerts.yml by make_dashboard.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tlpo-ray
  labels: {app.kubernetes.io/part-of: tlpo-ray}
spec:
"""
WIDTH, HEIGHT = 24, 7
UNITS = {"seconds": "s", "bytes": "bytes"}
SHARE = "percentunit"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel that shows one or a few metrics."""

    title: str
    metrics: tuple[str, ...]
    width: int = 6
    unit: str | None = None
    """Grafana's name of the unit; None takes the metric's unit."""
    kind: str = "timeseries"
    stacked: bool = False


def stat(title: str, metric: str, unit: str | None = None) -> Panel:
    """Return a panel that shows one current value."""
    return Panel(title=title, metrics=(metric,), width=4, unit=unit, kind="stat")


ROWS: dict[str, tuple[Panel, ...]] = {
    "Are we learning?": (
        stat("Progress", "progress", SHARE),
        stat("Time left", "eta"),
        stat("Recent RPR", "rpr_recent", SHARE),
        stat("Policy version", "policy_version"),
        stat("Groups learned", "groups_learned"),
        stat("Prompts done", "prompts_done"),
        Panel(title="Confused answers, by language", metrics=("confusion_rate",), width=12, unit=SHARE),
        Panel(title="Answers without confusion (RPR)", metrics=("rpr_recent", "rpr_so_far"), width=12, unit=SHARE),
        Panel(title="Probability mass with reward +1", metrics=("reward_mass",), unit=SHARE),
        Panel(title="Loss and surrogate", metrics=("loss", "surrogate")),
        Panel(title="KL to the reference", metrics=("kl",)),
        Panel(title="Gradient norm", metrics=("grad_norm",)),
        Panel(title="Clipped candidates", metrics=("clip_fraction",), unit=SHARE),
        Panel(title="Largest |ratio - 1|", metrics=("ratio_deviation",)),
        Panel(title="End-of-text mass in candidate sets", metrics=("eos_mass",), unit=SHARE),
        Panel(title="Length of clean answers", metrics=("clean_length",)),
        Panel(title="Learning rate", metrics=("lr",)),
    ),
    "Is it fast?": (
        Panel(title="Sampled tokens per second", metrics=("tokens_rate",)),
        Panel(title="Prompts per second", metrics=("prompts_rate",)),
        Panel(
            title="Rollout utilization and KV cache usage",
            metrics=("rollout_utilization", "kv_cache_usage"),
            unit=SHARE,
        ),
        Panel(title="Last update and slowest weight sync", metrics=("update_time", "sync_time")),
        Panel(
            title="Time by phase",
            metrics=("seconds_collect", "seconds_update", "seconds_publish"),
            width=12,
            stacked=True,
        ),
        Panel(title="Bytes sent per policy version", metrics=("sync_bytes",)),
        Panel(title="Tokens sampled and tokens discarded", metrics=("tokens_generated", "tokens_discarded")),
    ),
    "Is it healthy?": (
        Panel(title="Rollout actors by state", metrics=("actors",), width=8, stacked=True),
        Panel(title="Prompts by place", metrics=("prompts",), width=8, stacked=True),
        Panel(title="Restarts", metrics=("actor_restarts", "learner_restarts", "exchange_restarts"), width=8),
        Panel(title="Groups waiting for the learner", metrics=("queue_depth",)),
        Panel(title="Age of the oldest waiting group", metrics=("queue_oldest",)),
        Panel(title="Policy versions between sampling and learning", metrics=("policy_lag",)),
        Panel(title="Canary difference after a sync", metrics=("canary",)),
        Panel(title="Groups dropped", metrics=("groups_uninformative", "groups_stale"), width=8),
        Panel(title="Prompts rolled out again", metrics=("prompts_rerolled",), width=8),
        Panel(title="Prompts skipped, by reason", metrics=("prompts_skipped",), width=8),
    ),
}
NODES = (
    ("CPU per node", "avg by (instance) (ray_node_cpu_utilization)", "percent"),
    ("Memory per node", "max by (instance) (ray_node_mem_used)", "bytes"),
    ("GPU", "avg by (instance, GpuIndex) (ray_node_gpus_utilization)", "percent"),
    ("GPU memory", "max by (instance, GpuIndex) (ray_node_gram_used)", "decmbytes"),
)
"""(title, query, unit) of the panels with Ray's own node metrics; those about GPUs stay empty on nodes without GPUs."""


def query(metric: str) -> str:
    """Return the query of a run's metric.

    A resumed run has another driver process, so for a while two series exist; the maximum joins them.
    """
    label = METRICS[metric].label
    return f'max by (run{f", {label}" if label else ""}) (ray_tlpo_{metric}{{run=~"$run"}})'


def dashboard() -> dict[str, Any]:
    """Return the dashboard in the form that Grafana imports."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, WIDTH, 1)})
        y = _arrange(panels, [(panel.width, _height(panel), _panel(panel)) for panel in row], y + 1)
    panels.append({"type": "row", "title": "Nodes", "collapsed": False, "gridPos": _place(0, y, WIDTH, 1)})
    _arrange(panels, [(6, HEIGHT, _node(*node)) for node in NODES], y + 1)
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "uid": "tlpo-ray",
        "title": "tlpo-ray",
        "tags": ["ray", "tlpo"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source(), _runs()]},
        "panels": panels,
    }


def _arrange(panels: list[dict[str, Any]], new: list[tuple[int, int, dict[str, Any]]], y: int) -> int:
    """Append panels of (width, height) from left to right, row by row; return the next free y position."""
    x = height = 0
    for width, tall, panel in new:
        if x + width > WIDTH:
            x, y, height = 0, y + height, 0
        panels.append({**panel, "gridPos": _place(x, y, width, tall)})
        x, height = x + width, max(height, tall)
    return y + height


def _height(panel: Panel) -> int:
    return 3 if panel.kind == "stat" else HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    label = METRICS[panel.metrics[0]].label
    targets = [
        {"refId": chr(65 + n), "expr": query(metric), "legendFormat": _legend(panel, metric), "datasource": SOURCE}
        for n, metric in enumerate(panel.metrics)
    ]
    unit = panel.unit or UNITS.get(METRICS[panel.metrics[0]].unit, "short")
    meaning = "\n\n".join(f"{metric}: {METRICS[metric].help}" for metric in panel.metrics)
    return _rendered(panel.title, meaning, panel.kind, unit, targets, stacked=panel.stacked, legend=label is not None)


def _legend(panel: Panel, metric: str) -> str:
    label = METRICS[metric].label
    if label is not None:
        return f"{{{{{label}}}}} {{{{run}}}}"
    return "{{run}}" if len(panel.metrics) == 1 else f"{metric} {{{{run}}}}"


def _node(title: str, expression: str, unit: str) -> dict[str, Any]:
    legend = "{{instance}} {{GpuIndex}}" if "GpuIndex" in expression else "{{instance}}"
    target = {"refId": "A", "expr": expression, "legendFormat": legend, "datasource": SOURCE}
    return _rendered(title, "Ray's own metric.", "timeseries", unit, [target])


def _rendered(
    title: str, meaning: str, kind: str, unit: str, targets: list[dict[str, Any]], *, stacked: bool = False,
    legend: bool = False,
) -> dict[str, Any]:  # fmt: skip
    panel: dict[str, Any] = {
        "type": kind,
        "title": title,
        "description": meaning,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }
    if kind == "timeseries":
        panel["fieldConfig"]["defaults"]["custom"] = {
            "lineWidth": 2,
            "fillOpacity": 40 if stacked else 0,
            "stacking": {"mode": "normal" if stacked else "none"},
        }
        show = legend or len(targets) > 1
        panel["options"] = {
            "legend": {"showLegend": show, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        }
    return panel


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _runs() -> dict[str, Any]:
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(ray_tlpo_progress, run)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
    }


def generated_files() -> dict[Path, str]:
    """Return the content of every file that this script writes."""
    rules = indent(ALERTS.read_text(encoding="utf-8"), "  ")
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n",
        MANIFEST: PROMETHEUS_RULE + rules,
    }


if __name__ == "__main__":
    for file, text in generated_files().items():
        file.write_text(text, encoding="utf-8")
