"""Prompts and training examples: reading, filtering, Appendix B of the paper, preference pairs."""

__all__ = [
    "appendix_b",
    "columns",
    "conversations",
    "folders",
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
    "tool_calls",
    "unpack",
]
