"""The commands on the terminal: each calls a library function and shows what it returns."""

__all__ = [
    "alternatives",
    "baseline",
    "choices",
    "data",
    "detect",
    "detect_report",
    "display",
    "doctor",
    "drain",
    "evaluate",
    "experiment",
    "export",
    "jobs",
    "plan",
    "post_mortem",
    "quickstart",
    "report",
    "scale",
    "status",
    "train",
]
