"""Writes grafana-dashboard.json beside this file, and alerts.yml once more for Kubernetes, as kuberay/alerts.yaml:
`python deploy/monitoring/make_dashboard.py`.

A panel is a line below; what its metrics mean, Grafana shows as the panel's description.
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
PROMETHEUS_RULE = """# For the Prometheus operator: deploy/monitoring/alerts.yml, of which make_dashboard.py makes this.
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
    """One picture of one or a few metrics."""

    title: str
    metrics: tuple[str, ...]
    width: int = 6
    unit: str | None = None
    """In Grafana's words; none takes that of the metric."""
    kind: str = "timeseries"
    stacked: bool = False


def stat(title: str, metric: str, unit: str | None = None) -> Panel:
    return Panel(title=title, metrics=(metric,), width=4, unit=unit, kind="stat")


ROWS: dict[str, tuple[Panel, ...]] = {
    "Are we learning?": (
        stat("Done", "progress", SHARE),
        stat("Left", "eta"),
        stat("RPR lately", "rpr_recent", SHARE),
        stat("Policy version", "policy_version"),
        stat("Groups learned", "groups_learned"),
        stat("Prompts done", "prompts_done"),
        Panel(title="Confused answers, by language", metrics=("confusion_rate",), width=12, unit=SHARE),
        Panel(title="Answers without confusion (RPR)", metrics=("rpr_recent", "rpr_so_far"), width=12, unit=SHARE),
        Panel(title="Candidates' mass with reward +1", metrics=("reward_mass",), unit=SHARE),
        Panel(title="Loss and surrogate", metrics=("loss", "surrogate")),
        Panel(title="KL to the reference", metrics=("kl",)),
        Panel(title="Gradient norm", metrics=("grad_norm",)),
        Panel(title="Clipped candidates", metrics=("clip_fraction",), unit=SHARE),
        Panel(title="Largest |ratio - 1|", metrics=("ratio_deviation",)),
        Panel(title="End-of-text mass in candidate sets", metrics=("eos_mass",), unit=SHARE),
        Panel(title="Length of a clean answer", metrics=("clean_length",)),
        Panel(title="Learning rate", metrics=("lr",)),
    ),
    "Is it fast?": (
        Panel(title="Sampled tokens a second", metrics=("tokens_rate",)),
        Panel(title="Prompts a second", metrics=("prompts_rate",)),
        Panel(title="Rollout actors at work, KV cache in use", metrics=("rollout_busy", "kv_use"), unit=SHARE),
        Panel(title="Last update, slowest load of weights", metrics=("update_time", "sync_time")),
        Panel(
            title="Where the loop's time went",
            metrics=("seconds_collect", "seconds_update", "seconds_publish"),
            width=12,
            stacked=True,
        ),
        Panel(title="Weights of a version on the wire", metrics=("sync_bytes",)),
        Panel(title="Tokens sampled, tokens beyond confusion", metrics=("tokens_generated", "tokens_discarded")),
    ),
    "Is it healthy?": (
        Panel(title="Rollout actors by state", metrics=("actors",), width=8, stacked=True),
        Panel(title="Prompts by place", metrics=("prompts",), width=8, stacked=True),
        Panel(title="Started again", metrics=("restarts", "learner_restarts", "exchange_restarts"), width=8),
        Panel(title="Groups that wait for the learner", metrics=("queue_depth",)),
        Panel(title="The first of them has waited", metrics=("queue_oldest",)),
        Panel(title="Policy versions from sampling to learning", metrics=("version_lag",)),
        Panel(title="Canary after a sync", metrics=("canary",)),
        Panel(title="Groups dropped", metrics=("groups_uninformative", "groups_stale"), width=8),
        Panel(title="Prompts rolled out again", metrics=("prompts_rerolled",), width=8),
        Panel(title="Prompts skipped, by reason", metrics=("prompts_skipped",), width=8),
    ),
}
NODES = (
    ("CPU of a node", "avg by (instance) (ray_node_cpu_utilization)", "percent"),
    ("Memory of a node", "max by (instance) (ray_node_mem_used)", "bytes"),
    ("GPU", "avg by (instance, GpuIndex) (ray_node_gpus_utilization)", "percent"),
    ("GPU memory", "max by (instance, GpuIndex) (ray_node_gram_used)", "decmbytes"),
)
"""Ray's own, beside ours; those of GPUs are empty where there are none."""


def query(metric: str) -> str:
    """A run's figure; the driver of a run that goes on is another process, hence the maximum."""
    label = METRICS[metric].label
    return f'max by (run{f", {label}" if label else ""}) (ray_tlpo_{metric}{{run=~"$run"}})'


def dashboard() -> dict[str, Any]:
    """All of it, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, WIDTH, 1)})
        y = _lay(panels, [(panel.width, _height(panel), _panel(panel)) for panel in row], y + 1)
    panels.append({"type": "row", "title": "Nodes", "collapsed": False, "gridPos": _place(0, y, WIDTH, 1)})
    _lay(panels, [(6, HEIGHT, _node(*node)) for node in NODES], y + 1)
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


def _lay(panels: list[dict[str, Any]], new: list[tuple[int, int, dict[str, Any]]], y: int) -> int:
    """Panels from left to right, line by line; the next free line."""
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
    return _drawn(panel.title, meaning, panel.kind, unit, targets, stacked=panel.stacked, legend=label is not None)


def _legend(panel: Panel, metric: str) -> str:
    label = METRICS[metric].label
    if label is not None:
        return f"{{{{{label}}}}} {{{{run}}}}"
    return "{{run}}" if len(panel.metrics) == 1 else f"{metric} {{{{run}}}}"


def _node(title: str, expression: str, unit: str) -> dict[str, Any]:
    legend = "{{instance}} {{GpuIndex}}" if "GpuIndex" in expression else "{{instance}}"
    target = {"refId": "A", "expr": expression, "legendFormat": legend, "datasource": SOURCE}
    return _drawn(title, "From Ray.", "timeseries", unit, [target])


def _drawn(
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


def written() -> dict[Path, str]:
    """Files and what is to stand in them."""
    rules = indent(ALERTS.read_text(encoding="utf-8"), "  ")
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n",
        MANIFEST: PROMETHEUS_RULE + rules,
    }


if __name__ == "__main__":
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")
