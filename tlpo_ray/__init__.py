"""tlpo-ray: Token-Level Policy Optimization on Ray, vLLM and DeepSpeed. Imports nothing."""

__version__ = "0.1.0"
