"""Everything about Ray that is not about reinforcement learning: connecting, placing, waiting, hangs, restarts."""

__all__ = [
    "actors",
    "addresses",
    "connect",
    "hangs",
    "placement",
    "progress",
    "restarts",
    "stacks",
    "waiting",
]
