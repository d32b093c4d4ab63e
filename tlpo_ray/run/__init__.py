"""One run, from its configuration to `result.json`: the loop, its components, its folder, its journal."""

__all__ = [
    "backends",
    "build",
    "capacity",
    "checkpoints",
    "components",
    "control",
    "counters",
    "doctor",
    "export",
    "folder",
    "journal",
    "local",
    "loop",
    "metrics_log",
    "ray_metrics",
    "reporter",
    "result",
    "resume",
    "trackers",
    "training",
]
