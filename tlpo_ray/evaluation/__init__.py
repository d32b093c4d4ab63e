"""Evaluating a model: sampling its answers, judging their language, scoring their content."""

__all__ = [
    "accuracy",
    "alternatives",
    "evaluate",
    "generation",
    "harness",
    "harness_model",
    "judge",
    "keeping",
    "output",
    "own_process",
    "perplexity",
    "probe",
    "sampling",
    "suites",
]
