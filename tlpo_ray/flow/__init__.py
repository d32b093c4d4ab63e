"""What travels between processes: records, weights, metrics, and the exchange of prompts and candidate groups."""

__all__ = [
    "conversation",
    "curriculum",
    "delta",
    "draws",
    "exchange",
    "file_layout",
    "ledger",
    "lora",
    "metrics",
    "models",
    "queue",
    "ray_shell",
    "recent_share",
    "records",
    "tokenizer",
    "truncation",
    "vllm_sync",
    "vllm_transfer",
    "weights",
]
