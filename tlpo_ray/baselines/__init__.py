"""Baselines for comparison: SFT, DPO, ORPO and GRPO, trained with TRL, and Smoothie, which scales the output head."""

__all__ = [
    "answers",
    "examples",
    "pairs",
    "rendering",
    "smoothie",
    "trainers",
    "training",
]
