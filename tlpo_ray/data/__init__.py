"""Prompts and training examples: reading, filtering, Appendix B of the paper, preference pairs."""

__all__ = [
    "appendix_b",
    "conversations",
    "load",
    "output",
    "pairs",
    "prepare",
    "prompts",
    "readers",
    "requests",
    "rules",
    "spool",
    "tables",
]
