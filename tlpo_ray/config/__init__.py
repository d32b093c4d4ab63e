"""The configuration of runs and baselines, its presets, and the plugins that it names."""

__all__ = [
    "baseline",
    "cluster",
    "decoding",
    "detector",
    "devices",
    "fields",
    "load",
    "model",
    "plugins",
    "renamed",
    "run",
    "versions",
    "yaml_text",
]
