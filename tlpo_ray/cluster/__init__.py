"""Everything about Ray that is not about reinforcement learning: connecting, placing, waiting, hangs, restarts."""

__all__ = [
    "actors",
    "addresses",
    "connect",
    "drain",
    "events",
    "hangs",
    "nodes",
    "placement",
    "post_mortem",
    "process_log",
    "progress",
    "restarts",
    "stacks",
    "waiting",
]
