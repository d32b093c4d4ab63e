"""The engine on vLLM: its v1 engine in this process, stepped by us, so that an abort takes effect at once."""

from __future__ import annotations

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from actors.engine import EngineOptions, run_all
from actors.requests import (
    CandidateSet,
    EngineRequest,
    GreedyRequest,
    MultinomialRequest,
    SampleRequest,
    StopCondition,
    TopKRequest,
)
from actors.vllm_env import vllm_env
from actors.vllm_requests import most_probable, sampling_params
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import CANDIDATES_LIMIT, MIB, RolloutConfig
from tlpo_ray.errors import ModelError, first_line
from tlpo_ray.flow import vllm_sync
from tlpo_ray.flow.models import attends_only, text_config
from tlpo_ray.flow.tokenizer import end_of_text_ids
from tlpo_ray.flow.weights import RECEIVERS, Bucket, Rendezvous, TensorMeta
from tlpo_ray.loading import heavy_imports

R = TypeVar("R")
ALL_TOKENS = -1
"""vLLM's code for the log-probabilities of the complete vocabulary."""
ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Maximum adapter ranks that vLLM can be configured for."""
UNSUPPORTED = (
    OSError,
    ValueError,
    KeyError,
    AssertionError,
    AttributeError,
    TypeError,
    ImportError,
    NotImplementedError,
)
"""What vLLM raises about models that it does not support. Lack of memory, a RuntimeError, may pass."""


@dataclass(frozen=True, slots=True)
class _Running:
    """Callbacks of a request inside vLLM."""

    on_tokens: Callable[[Any], bool]
    """Called with vLLM's `CompletionOutput` of a step; True aborts the request."""
    on_end: Callable[[], None]
    """Called when the request has finished or was aborted."""


class VLLMEngine:
    """`ObservableEngine`, `BroadcastEngine`, `SleepingEngine` and `DecodingEngine` on vLLM.

    Raises:
        ModelError: vLLM cannot load the model.
    """

    display_name: ClassVar[str] = "vLLM"
    supports_broadcast: ClassVar[bool] = True
    needs_own_process: ClassVar[bool] = True

    def __init__(self, model: ModelConfig, rollout: RolloutConfig, options: EngineOptions) -> None:
        on_gpu = torch.cuda.is_available()
        for name, value in vllm_env(on_gpu=on_gpu).items():
            os.environ.setdefault(name, value)
        logging.getLogger("torch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
        with heavy_imports():
            from vllm.v1.engine.llm_engine import LLMEngine

            vllm_sync.register()
        try:
            self._engine = LLMEngine.from_engine_args(_engine_args(model, rollout, options, on_gpu=on_gpu))
        except UNSUPPORTED as error:
            raise ModelError(f"vLLM cannot load {model.path!r}: {_reason(error)}") from error
        self._lora = options.lora
        self._adapter: Any = None
        """vLLM's name of the loaded adapter; requests are served with it."""
        if options.weight_transfer == "object_store" and options.lora is None:
            vllm_sync.prepare(self._engine)
        self.max_context = model.max_context
        self.eos_ids = end_of_text_ids(model)
        self._engine.set_weight_version("0")
        self.step_clock = WorkClock()
        self._num_added = 0
        self._running: dict[str, _Running] = {}
        """Requests inside vLLM by its request ids."""
        self._draws: deque[tuple[MultinomialRequest, Callable[[Any], None]]] = deque()
        """Draws that wait for the one that is under way."""
        self._drawing = False
        self._check_computes(model)

    def submit(self, request: EngineRequest[R], on_done: Callable[[R], None]) -> None:
        self._add(request, on_done)

    def step(self) -> bool:
        for output in self._engine.step():
            self.step_clock.note()
            if output.request_id not in self._running:
                continue  # it was aborted in an earlier step
            running = self._running[output.request_id]
            abort = running.on_tokens(output.outputs[0]) and not output.finished
            if abort:
                self._engine.abort_request([output.request_id])
            if abort or output.finished:
                del self._running[output.request_id]
                running.on_end()
        return bool(self._engine.has_unfinished_requests())

    @property
    def version(self) -> int:
        return int(self._engine.get_weight_version())

    def load_weights(self, buckets: Iterable[Bucket], version: int) -> None:
        if self._lora is None:
            vllm_sync.load(self._engine, buckets)
        else:
            from tlpo_ray.flow.vllm_transfer import load_adapter

            bucket = [named for bucket in buckets for named in bucket]
            self._adapter = load_adapter(self._engine, bucket, self._lora, version, self._adapter)
        self._engine.set_weight_version(str(version))

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        vllm_sync.join(self._engine, rendezvous, rank)

    def receive_weights(self, incoming: Sequence[TensorMeta], version: int) -> None:
        vllm_sync.receive(self._engine, incoming)
        self._engine.set_weight_version(str(version))

    def sleep(self) -> None:
        if not self._engine.is_sleeping():
            self._engine.sleep(level=1)

    def wake(self) -> None:
        if self._engine.is_sleeping():
            self._engine.wake_up()

    @property
    def kv_cache_usage(self) -> float:
        return float(self._engine.engine_core.engine_core.scheduler.kv_cache_manager.usage)

    @property
    def interventions(self) -> int:
        from actors.decoding.vllm_processor import interventions

        # Ranks of a tensor-parallel engine apply the same rules to the same logits.
        return int(max(self._engine.collective_rpc(interventions)))

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _check_computes(self, model: ModelConfig) -> None:
        """Compute the tokens after one token: kernels that a model lacks are missed then, and not by the first prompt.

        Raises:
            ModelError: vLLM cannot.
        """
        try:
            run_all(self, [TopKRequest(context_ids=(0,), n=1)])
        except torch.OutOfMemoryError:
            raise
        except (*UNSUPPORTED, RuntimeError) as error:
            where = "" if torch.cuda.is_available() else " on a CPU"
            raise ModelError(
                f"vLLM cannot compute with {model.path!r} in {model.dtype}{where} ({_reason(error)}): set another "
                f"model.dtype, or rollout.engine=transformers"
            ) from error

    def _add(self, request: EngineRequest[Any], on_done: Callable[[Any], None]) -> None:
        match request:
            case SampleRequest():
                parameters = sampling_params(
                    request.max_new_tokens, request.temperature, request.seed, eos_ids=self.eos_ids,
                    rule=request.rule, banned_ids=request.banned_ids,
                )  # fmt: skip
                self._generate(request.prompt_ids, parameters, request.stop_condition, on_done)
            case TopKRequest(n=n, include=include):
                self._probe(request.context_ids, n, lambda row: on_done(most_probable(row, n, include)), include)
            case MultinomialRequest():
                self._draws.append((request, on_done))
                self._begin_draw()
            case GreedyRequest():
                self._continue_greedily(request, on_done)
            case _:
                raise TypeError(f"{type(request).__name__} is not a request that this engine serves")

    def _generate(
        self,
        prompt_ids: Sequence[int],
        parameters: Any,
        stop_condition: StopCondition | None,
        on_done: Callable[[list[int]], None],
    ) -> None:
        answer: list[int] = []

        def on_tokens(output: Any) -> bool:
            new_ids = [token for token in output.token_ids if token not in self.eos_ids]
            answer.extend(new_ids)
            return bool(new_ids) and stop_condition is not None and stop_condition(new_ids)

        self._add_to_vllm(prompt_ids, parameters, _Running(on_tokens, lambda: on_done(answer)))

    def _probe(
        self,
        context_ids: Sequence[int],
        n: int,
        on_done: Callable[[dict[int, Any]], None],
        include: int | None = None,
    ) -> None:
        """Generate one token for its log-probabilities; the keys and values of the context are cached from sampling.

        vLLM returns those of the `n` most probable tokens and that of the generated one: making it generate `include`
        is how that token's is obtained. Raw log-probabilities do not see the restriction.
        """
        rows: list[dict[int, Any]] = []

        def on_tokens(output: Any) -> bool:
            rows.append(output.logprobs[0])
            return False

        parameters = sampling_params(1, logprobs=n, forced=include)
        self._add_to_vllm(context_ids, parameters, _Running(on_tokens, lambda: on_done(rows[0])))

    def _begin_draw(self) -> None:
        """Begin the next draw unless one is under way.

        One at a time, because vLLM creates a Python object per token of the vocabulary for each.
        """
        if self._drawing or not self._draws:
            return
        self._drawing = True
        request, on_done = self._draws.popleft()

        def draw(row: dict[int, Any]) -> None:
            vocabulary = most_probable(row, len(row))
            generator = torch.Generator().manual_seed(request.seed)
            picked = torch.multinomial(torch.from_numpy(vocabulary.logp).exp(), request.n, generator=generator)
            kept = np.sort(picked.numpy())  # positions in a most-probable-first order
            self._drawing = False
            self._begin_draw()
            on_done(CandidateSet(token_ids=vocabulary.token_ids[kept], logp=vocabulary.logp[kept]))

        self._probe(request.context_ids, ALL_TOKENS, draw)

    def _continue_greedily(self, request: GreedyRequest, on_done: Callable[[list[list[int]]], None]) -> None:
        continuations: list[list[int]] = [[] for _ in request.contexts]
        limits = [min(request.max_new_tokens, self.max_context - len(context)) for context in request.contexts]
        unfinished = {number for number, limit in enumerate(limits) if limit > 0}
        if not unfinished:
            on_done(continuations)
            return

        def finish(number: int, token_ids: list[int]) -> None:
            continuations[number] = token_ids
            unfinished.remove(number)
            if not unfinished:
                on_done(continuations)

        for number in tuple(unfinished):
            parameters = sampling_params(limits[number], eos_ids=self.eos_ids)
            stop_condition = request.stop_conditions[number] if request.stop_conditions else None
            self._generate(request.contexts[number], parameters, stop_condition, partial(finish, number))

    def _add_to_vllm(self, prompt_ids: Sequence[int], parameters: Any, running: _Running) -> None:
        self._num_added += 1
        request_id = str(self._num_added)
        self._running[request_id] = running
        prompt = {"prompt_token_ids": list(prompt_ids)}
        self._engine.add_request(request_id, prompt, parameters, lora_request=self._adapter)


def _engine_args(model: ModelConfig, rollout: RolloutConfig, options: EngineOptions, *, on_gpu: bool) -> Any:
    """Return vLLM's `EngineArgs`."""
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import EngineArgs

    # vLLM requires this share of a GPU to be free when it starts, even where the cache's size is given.
    memory: dict[str, Any] = {"gpu_memory_utilization": rollout.gpu_memory_utilization}
    if rollout.kv_cache_mib is not None:
        memory["kv_cache_memory_bytes"] = rollout.kv_cache_mib * MIB
    adapter: dict[str, Any] = {}
    if options.lora is not None:
        rank = next(rank for rank in ADAPTER_RANKS if rank >= options.lora.rank)
        adapter = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
    return EngineArgs(
        model=model.path,
        revision=model.revision,
        dtype=model.dtype,
        max_model_len=model.max_context,
        trust_remote_code=model.trust_remote_code,
        # Where Mistral's own files are beside transformers', vLLM would read those: the learner reads config.json.
        config_format="hf",
        tokenizer_mode="hf",
        load_format="auto" if model.allow_pickle else "safetensors",
        seed=options.seed,
        enforce_eager=rollout.enforce_eager or not on_gpu,
        # On the CPU a seeded request whose prompt is cut into chunks crashes: its generator has no offset there.
        enable_chunked_prefill=on_gpu,
        max_num_seqs=rollout.concurrency,
        tensor_parallel_size=rollout.tensor_parallel,
        max_logprobs=ALL_TOKENS if rollout.selection == "multinomial" else CANDIDATES_LIMIT,
        # Before temperature and other sampling parameters: candidate sets come from the policy itself.
        logprobs_mode="raw_logprobs",
        # Noise in float64 by the request's own generator, which is what TransformersEngine draws, too.
        use_fp64_gumbel=rollout.reproducible,
        disable_log_stats=True,
        enable_sleep_mode=options.sleeps and on_gpu,  # vLLM's CPU build lacks it and does not need it
        use_tqdm_on_load=False,
        weight_transfer_config=WeightTransferConfig(backend=RECEIVERS[options.weight_transfer]),
        **memory,
        **adapter,
        **({} if on_gpu else _cpu_workarounds(model)),
    )


def _reason(error: BaseException) -> str:
    """Return in one line why vLLM does not load a model, and what to do where that is known."""
    # Pydantic's message begins with the number of errors; what follows is "Value error, TEXT [type=…".
    reason = first_line(error)
    if "validation error" in reason and len(lines := str(error).splitlines()) > 1:
        reason = lines[1].strip().partition(" [type=")[0].partition(", ")[2] or reason
    if "failed to be inspected" in reason and find_spec("torchvision") is None:
        reason = "its class needs torchvision, which is not installed: install the build that belongs to torch, or set "
        reason += "rollout.engine=transformers"
    return reason if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {reason}"


def _cpu_workarounds(model: ModelConfig) -> dict[str, Any]:
    """Return engine arguments without which vLLM's CPU build computes wrongly for some models, or does not start."""
    config = text_config(model)
    arguments: dict[str, Any] = {}
    if getattr(config, "kv_lora_rank", None):
        # Latent attention rotates [tokens, heads, dimensions]; the CPU kernel rotates wrong elements of that, silently.
        arguments["compilation_config"] = {"custom_ops": ["-rotary_embedding"]}
    if not attends_only(config):
        # The state after a prefix is cached in chunks only, which are switched off above.
        arguments["enable_prefix_caching"] = False
    return arguments
