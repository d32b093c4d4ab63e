"""The configuration of runs and baselines, its presets, and the plugins that it names."""

__all__ = [
    "baseline",
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
