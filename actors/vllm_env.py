"""Environment of a process that runs vLLM, to be set before vLLM is imported. Imports nothing heavy."""

from __future__ import annotations

COMMON = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process, so that it can be stepped and aborted exactly
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",  # an actor that loads weights does nothing else
}
ON_CPU = {
    "CUDA_VISIBLE_DEVICES": "",  # a CPU actor must not use a GPU that happens to exist
    "OMP_NUM_THREADS": "1",  # two threads beside another busy process decode two to three times slower
    "TORCH_COMPILE_DISABLE": "1",  # one compiled helper would cost 12 s at the first log-probabilities
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def vllm_env(*, on_gpu: bool) -> dict[str, str]:
    """Return the environment variables of a rollout actor.

    Args:
        on_gpu: Whether its engine runs on a GPU.
    """
    return COMMON if on_gpu else COMMON | ON_CPU
