"""Sequence-level baselines through TRL: SFT, DPO, ORPO, GRPO."""
