"""Sequence-level baselines, trained with TRL for comparison: SFT, DPO, ORPO and GRPO."""
