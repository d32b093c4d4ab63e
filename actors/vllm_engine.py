"""The engine on vLLM: its v1 engine in this process, stepped by us, so that an abort takes effect at once."""

from __future__ import annotations

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from actors.engine import CandidateSet, SampleRequest, Watch
from actors.tasks import Ask, Candidates, Draw, Extend, Sample, T, Task, drive, one_ask, resume
from actors.vllm_env import vllm_env
from tlpo_ray.config.run import CANDIDATES_LIMIT, MIB, LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.errors import ModelError, first_line
from tlpo_ray.flow import vllm_sync
from tlpo_ray.flow.models import eos_set
from tlpo_ray.flow.weights import RECEIVERS, Bucket, Rendezvous, TensorMeta

WHOLE_VOCABULARY = -1
"""vLLM's word for a log-probability of every token."""
OnTokens = Callable[[Any], bool]
"""Of vLLM's output of one step to a request: whether to abort it."""
Then = Callable[[Any], None]


class VLLMEngine:
    """`TokenEngine` on vLLM.

    Raises:
        ModelError: vLLM cannot load the model.
    """

    def __init__(
        self,
        model: ModelConfig,
        rollout: RolloutConfig,
        seed: int,
        weight_transfer: str = "object_store",
        lora: LoraConfig | None = None,
        *,
        sleeps: bool = False,
    ) -> None:
        on_gpu = torch.cuda.is_available()
        for name, value in vllm_env(on_gpu=on_gpu).items():
            os.environ.setdefault(name, value)
        logging.getLogger("torch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
        from vllm.config import WeightTransferConfig
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        vllm_sync.register()
        # vLLM wants this share of a GPU to be free when it starts, also where the cache's size is given.
        memory: dict[str, Any] = {"gpu_memory_utilization": rollout.gpu_memory_utilization}
        if rollout.kv_cache_mib is not None:
            memory["kv_cache_memory_bytes"] = rollout.kv_cache_mib * MIB
        adapter: dict[str, Any] = {}
        if lora is not None:
            adapter = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank_with_room(lora.rank)}
        arguments = EngineArgs(
            model=model.path,
            revision=model.revision,
            dtype=model.dtype,
            max_model_len=model.max_context,
            trust_remote_code=model.trust_remote_code,
            load_format="auto" if model.allow_pickle else "safetensors",
            seed=seed,
            enforce_eager=rollout.enforce_eager or not on_gpu,
            # On the CPU a seeded request whose prompt is cut into chunks crashes: its generator has no offset there.
            enable_chunked_prefill=on_gpu,
            max_num_seqs=rollout.concurrency,
            tensor_parallel_size=rollout.tensor_parallel,
            max_logprobs=WHOLE_VOCABULARY if rollout.selection == "multinomial" else CANDIDATES_LIMIT,
            logprobs_mode="raw_logprobs",
            # Noise in float64 by the request's own generator: what TransformersEngine draws, too.
            use_fp64_gumbel=rollout.reproducible,
            disable_log_stats=True,
            enable_sleep_mode=sleeps and on_gpu,  # vLLM's CPU build has none, and no need of it
            use_tqdm_on_load=False,
            weight_transfer_config=WeightTransferConfig(backend=RECEIVERS[weight_transfer]),
            **memory,
            **adapter,
        )
        try:
            self._engine = LLMEngine.from_engine_args(arguments)
        except (OSError, ValueError) as error:
            raise ModelError(f"vLLM cannot load {model.path!r}: {first_line(error)}") from error
        self._lora, self._adapter = lora, None
        if weight_transfer == "object_store" and lora is None:
            vllm_sync.prepare(self._engine)
        self.max_context = model.max_context
        self.eos_ids = _eos_ids(self._engine)
        self.version = 0
        self._added = 0
        self._running: dict[str, tuple[OnTokens, Callable[[], None]]] = {}
        """Requests in the engine: what to do with their tokens, and at their end."""
        self._draws: deque[tuple[Draw, Then]] = deque()
        self._drawing = False

    def sample(self, requests: Sequence[SampleRequest], watch: Watch | None = None) -> list[list[int]]:
        watches = [None if watch is None else partial(watch, number) for number in range(len(requests))]
        asks = (Sample(request=r, watch=w) for r, w in zip(requests, watches, strict=True))
        return drive(self, [one_ask(ask) for ask in asks])

    def candidates(self, contexts: Sequence[Sequence[int]], n: int) -> list[CandidateSet]:
        return drive(self, [one_ask(Candidates(context=context, n=n)) for context in contexts])

    def draw(self, contexts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[CandidateSet]:
        asks = (Draw(context=context, n=n, seed=seed) for context, seed in zip(contexts, seeds, strict=True))
        return drive(self, [one_ask(ask) for ask in asks])

    def extend(self, contexts: Sequence[Sequence[int]], k: int) -> list[list[int]]:
        (tails,) = drive(self, [one_ask(Extend(contexts=contexts, k=k))])
        found: list[list[int]] = tails
        return found

    def start(self, task: Task[T], ended: Callable[[T], None]) -> None:
        self._go_on(task, ended, None)

    def turn(self) -> bool:
        for output in self._engine.step():
            if output.request_id not in self._running:
                continue  # was aborted
            on_tokens, on_end = self._running[output.request_id]
            abort = on_tokens(output.outputs[0]) and not output.finished
            if abort:
                self._engine.abort_request([output.request_id])
            if abort or output.finished:
                del self._running[output.request_id]
                on_end()
        return bool(self._engine.has_unfinished_requests())

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        if self._lora is None:
            vllm_sync.load(self._engine, buckets)
        else:
            bucket = [named for bucket in buckets for named in bucket]
            self._adapter = vllm_sync.load_adapter(self._engine, bucket, self._lora, version, self._adapter)
        self.version = version

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner for `receive_weights`; `rank` is that of this engine's first process, from 1."""
        vllm_sync.join(self._engine, rendezvous, rank)

    def receive_weights(self, incoming: Sequence[TensorMeta], version: int) -> None:
        """Like `load_weights`, from the learner's broadcast."""
        vllm_sync.receive(self._engine, incoming)
        self.version = version

    def sleep(self) -> None:
        if not self._engine.is_sleeping():
            self._engine.sleep(level=1)

    def wake(self) -> None:
        if self._engine.is_sleeping():
            self._engine.wake_up()

    @property
    def kv_use(self) -> float:
        return float(self._engine.engine_core.engine_core.scheduler.kv_cache_manager.usage)

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _go_on(self, task: Task[T], ended: Callable[[T], None], value: Any) -> None:
        resume(task, value, lambda ask: self._serve(ask, partial(self._go_on, task, ended)), ended)

    def _serve(self, ask: Ask, then: Then) -> None:
        """Put an ask's requests into the engine; `then` gets its value when they have ended."""
        match ask:
            case Sample(request=r, watch=watch):
                self._sample(r.prompt_ids, self._parameters(r.max_new_tokens, r.temperature, r.seed), watch, then)
            case Candidates(context=context, n=n):
                self._probe(context, n, lambda row: then(_top(row, n)))
            case Draw():
                self._draws.append((ask, then))
                self._next_draw()
            case Extend(contexts=contexts, k=k):
                self._extend(contexts, k, then)

    def _sample(
        self, prompt: Sequence[int], parameters: Any, watch: Callable[[Sequence[int]], bool] | None, then: Then
    ) -> None:
        answer: list[int] = []

        def on_tokens(output: Any) -> bool:
            new_ids = [token for token in output.token_ids if token not in self.eos_ids]
            answer.extend(new_ids)
            return bool(new_ids) and watch is not None and watch(new_ids)

        self._add(prompt, parameters, on_tokens, lambda: then(answer))

    def _probe(self, context: Sequence[int], n: int, then: Then) -> None:
        """One token for its log-probabilities; the prefix is still cached from sampling."""
        rows: list[dict[int, Any]] = []

        def on_tokens(output: Any) -> bool:
            rows.append(output.logprobs[0])
            return False

        self._add(context, self._parameters(1, logprobs=n), on_tokens, lambda: then(rows[0]))

    def _next_draw(self) -> None:
        """The next draw, if none is under way: each has an object for every token of the vocabulary."""
        if self._drawing or not self._draws:
            return
        self._drawing = True
        ask, then = self._draws.popleft()

        def drawn(row: dict[int, Any]) -> None:
            everything = _top(row, len(row))
            generator = torch.Generator().manual_seed(ask.seed)
            picked = torch.multinomial(torch.from_numpy(everything.logp).exp(), ask.n, generator=generator)
            kept = np.sort(picked.numpy())  # positions in a most-probable-first order
            self._drawing = False
            self._next_draw()
            then(CandidateSet(token_ids=everything.token_ids[kept], logp=everything.logp[kept]))

        self._probe(ask.context, WHOLE_VOCABULARY, drawn)

    def _extend(self, contexts: Sequence[Sequence[int]], k: int, then: Then) -> None:
        tails: list[list[int]] = [[] for _ in contexts]
        rooms = [min(k, self.max_context - len(context)) for context in contexts]
        unfinished = {number for number, room in enumerate(rooms) if room > 0}
        if not unfinished:
            return then(tails)

        def ended(number: int, tail: list[int]) -> None:
            tails[number] = tail
            unfinished.remove(number)
            if not unfinished:
                then(tails)

        for number in tuple(unfinished):
            self._sample(contexts[number], self._parameters(rooms[number]), None, partial(ended, number))

    def _parameters(
        self, max_tokens: int, temperature: float = 0.0, seed: int | None = None, *, logprobs: int | None = None
    ) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            logprobs=logprobs,
            detokenize=False,
            skip_clone=True,  # each request has parameters of its own; a deep copy costs more than a token
            output_kind=RequestOutputKind.DELTA,
        )

    def _add(self, prompt: Sequence[int], parameters: Any, on_tokens: OnTokens, on_end: Callable[[], None]) -> None:
        self._added += 1
        self._running[str(self._added)] = (on_tokens, on_end)
        asked = {"prompt_token_ids": list(prompt)}
        self._engine.add_request(str(self._added), asked, parameters, lora_request=self._adapter)


def _top(row: dict[int, Any], n: int) -> CandidateSet:
    """The n most probable of a row, which may hold the sampled token as an extra."""
    best = sorted(row.items(), key=lambda entry: (-entry[1].logprob, entry[0]))[:n]
    return CandidateSet(
        token_ids=np.array([token for token, _ in best], np.int32),
        logp=np.array([value.logprob for _, value in best], np.float32),
    )


def _rank_with_room(rank: int) -> int:
    """The smallest rank that vLLM has room for."""
    return next(room for room in (8, 16, 32, 64, 128, 256, 320, 512) if room >= rank)


def _eos_ids(engine: Any) -> frozenset[int]:
    fields = engine.model_config.try_get_generation_config() or {}
    return eos_set(fields.get("eos_token_id") or getattr(engine.model_config.hf_config, "eos_token_id", None))
