"""Sequence-level baselines, trained with TRL for comparison: SFT, DPO, ORPO and GRPO."""

__all__ = [
    "answers",
    "examples",
    "pairs",
    "rendering",
    "trainers",
    "training",
]
