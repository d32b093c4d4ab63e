"""The engine on vLLM: its v1 engine in this process, stepped by us, so that an abort takes effect at once."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from actors.engine import CandidateSet, SampleRequest, Watch, eos_set
from actors.vllm_env import vllm_env
from tlpo_ray.config.run import CANDIDATES_LIMIT, MIB, ModelConfig, RolloutConfig
from tlpo_ray.flow import vllm_weights
from tlpo_ray.flow.errors import ModelError, first_line
from tlpo_ray.flow.weights import RECEIVERS, Bucket, Rendezvous, TensorMeta

WHOLE_VOCABULARY = -1
"""vLLM's word for a log-probability of every token."""
OnTokens = Callable[[int, Any], bool]
"""Of (request, vLLM's output of one step): whether to abort it."""


class VLLMEngine:
    """`TokenEngine` on vLLM.

    Raises:
        ModelError: vLLM cannot load the model.
    """

    def __init__(
        self, model: ModelConfig, rollout: RolloutConfig, seed: int, weight_transfer: str = "object_store"
    ) -> None:
        on_gpu = torch.cuda.is_available()
        for name, value in vllm_env(on_gpu=on_gpu).items():
            os.environ.setdefault(name, value)
        logging.getLogger("torch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
        from vllm.config import WeightTransferConfig
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        vllm_weights.register()
        memory: dict[str, Any] = {"gpu_memory_utilization": rollout.gpu_memory_utilization}
        if rollout.kv_cache_mib is not None:
            memory = {"kv_cache_memory_bytes": rollout.kv_cache_mib * MIB}
        arguments = EngineArgs(
            model=model.path,
            revision=model.revision,
            dtype=model.dtype,
            max_model_len=model.max_context,
            trust_remote_code=model.trust_remote_code,
            seed=seed,
            enforce_eager=not on_gpu,
            # On the CPU a seeded request whose prompt is cut into chunks crashes: its generator has no offset there.
            enable_chunked_prefill=on_gpu,
            max_num_seqs=rollout.concurrency,
            tensor_parallel_size=rollout.tensor_parallel,
            max_logprobs=WHOLE_VOCABULARY if rollout.selection == "multinomial" else CANDIDATES_LIMIT,
            logprobs_mode="raw_logprobs",
            # Noise in float64 by the request's own generator: what TransformersEngine draws, too.
            use_fp64_gumbel=rollout.reproducible,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            weight_transfer_config=WeightTransferConfig(backend=RECEIVERS[weight_transfer]),
            **memory,
        )
        try:
            self._engine = LLMEngine.from_engine_args(arguments)
        except (OSError, ValueError) as error:
            raise ModelError(f"vLLM cannot load {model.path!r}: {first_line(error)}") from error
        if weight_transfer == "object_store":
            vllm_weights.prepare(self._engine)
        self.max_context = model.max_context
        self.eos_ids = _eos_ids(self._engine)
        self.version = 0

    def sample(self, requests: Sequence[SampleRequest], watch: Watch | None = None) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in requests]

        def on_tokens(number: int, output: Any) -> bool:
            new_ids = [token for token in output.token_ids if token not in self.eos_ids]
            answers[number] += new_ids
            return bool(new_ids) and watch is not None and watch(number, new_ids)

        prompts = [request.prompt_ids for request in requests]
        self._run(
            prompts,
            [self._parameters(r.max_new_tokens, temperature=r.temperature, seed=r.seed) for r in requests],
            on_tokens,
        )
        return answers

    def candidates(self, contexts: Sequence[Sequence[int]], n: int) -> list[CandidateSet]:
        return [_top(row, n) for row in self._probe(contexts, n)]

    def draw(self, contexts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[CandidateSet]:
        drawn: list[CandidateSet] = []
        for context, seed in zip(contexts, seeds, strict=True):
            (row,) = self._probe([context], WHOLE_VOCABULARY)  # one at a time: a row holds an object for every token
            everything = _top(row, len(row))
            generator = torch.Generator().manual_seed(seed)
            picked = torch.multinomial(torch.from_numpy(everything.logp).exp(), n, generator=generator)
            kept = np.sort(picked.numpy())  # positions in a most-probable-first order
            drawn.append(CandidateSet(token_ids=everything.token_ids[kept], logp=everything.logp[kept]))
        return drawn

    def extend(self, contexts: Sequence[Sequence[int]], k: int) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in contexts]

        def on_tokens(number: int, output: Any) -> bool:
            answers[number] += [token for token in output.token_ids if token not in self.eos_ids]
            return False

        fits = [min(k, self.max_context - len(context)) for context in contexts]
        self._run(contexts, [self._parameters(room) if room > 0 else None for room in fits], on_tokens)
        return answers

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        vllm_weights.load(self._engine, buckets)
        self.version = version

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner for `receive_weights`; `rank` is that of this engine's first process, from 1."""
        vllm_weights.join(self._engine, rendezvous, rank)

    def receive_weights(self, incoming: Sequence[TensorMeta], version: int) -> None:
        """Like `load_weights`, from the learner's broadcast."""
        vllm_weights.receive(self._engine, incoming)
        self.version = version

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _probe(self, contexts: Sequence[Sequence[int]], n: int) -> list[dict[int, Any]]:
        """One token a context for its log-probabilities; the prefix is still cached from sampling."""
        rows: list[dict[int, Any]] = [{} for _ in contexts]

        def on_tokens(number: int, output: Any) -> bool:
            rows[number] = output.logprobs[0]
            return False

        self._run(contexts, [self._parameters(1, logprobs=n)] * len(contexts), on_tokens)
        return rows

    def _parameters(
        self, max_tokens: int, *, temperature: float = 0.0, seed: int | None = None, logprobs: int | None = None
    ) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            logprobs=logprobs,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _run(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Any], on_tokens: OnTokens) -> None:
        """Put all requests in and step until none is left; requests without parameters are left out."""
        for number, (prompt, wanted) in enumerate(zip(prompts, parameters, strict=True)):
            if wanted is not None:
                self._engine.add_request(str(number), {"prompt_token_ids": list(prompt)}, wanted)
        aborted: set[str] = set()
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                if output.request_id in aborted:
                    continue
                if on_tokens(int(output.request_id), output.outputs[0]) and not output.finished:
                    aborted.add(output.request_id)
                    self._engine.abort_request([output.request_id])


def _top(row: dict[int, Any], n: int) -> CandidateSet:
    """The n most probable of a row, which may hold the sampled token as an extra."""
    best = sorted(row.items(), key=lambda entry: (-entry[1].logprob, entry[0]))[:n]
    return CandidateSet(
        token_ids=np.array([token for token, _ in best], np.int32),
        logp=np.array([value.logprob for _, value in best], np.float32),
    )


def _eos_ids(engine: Any) -> frozenset[int]:
    fields = engine.model_config.try_get_generation_config() or {}
    return eos_set(fields.get("eos_token_id") or getattr(engine.model_config.hf_config, "eos_token_id", None))
