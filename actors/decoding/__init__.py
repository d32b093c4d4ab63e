"""Decoding methods against confusion: rules on the logits of each token, and retries. No method trains anything."""

__all__ = [
    "language_tokens",
    "retry",
    "rules",
    "vllm_processor",
]
