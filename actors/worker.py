"""A rollout worker: leased prompts in; an outcome per prompt, and candidate groups, out."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import detectors
from actors.batch import RolloutBatch
from actors.canary import CanaryCheck, canary_difference, canary_request
from actors.candidates import candidate_set, context_of
from actors.chat import EncodedPrompt, encode_prompts
from actors.completions import AnswerSettings, Completion, complete_answer
from actors.coroutine import RolloutCoroutine, observed, run_coroutines, start
from actors.engine import (
    BroadcastEngine,
    DecodingEngine,
    EngineFactory,
    EngineOptions,
    SleepingEngine,
    TokenEngine,
    run_all,
)
from actors.lookahead import CandidateScorer, CandidateScores, score_candidates
from actors.requests import CandidateSet
from actors.rollout import RenderedPrompt, Rollout, sample_answer
from actors.token_bytes import TokenBytes
from detectors.markers import all_markers, markers_of
from detectors.segments import Part, part_after
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.decoding import RULES, DecodingConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, load_plugin
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import ConfigError, TlpoError, WeightSyncError
from tlpo_ray.flow.delta import WeightMirror
from tlpo_ray.flow.records import CandidateGroup, Outcome, Prompt, PromptResult, RolloutReport
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.flow.truncation import truncation_of
from tlpo_ray.flow.weights import Bucket, Canary, Rendezvous, WeightUpdate

MOST_OF_TURN = 24
"""Tokens at the end of a prompt among which a chat template opens, or closes, the thoughts of the answer."""
MAX_FAILURES, MAX_FAILURE_SHARE = 8, 0.05
"""Rollouts that may raise: this number, or this share of all. More of them point to a fault, not to an odd answer."""


class RolloutWorker:
    """Stages 1 to 4 of Algorithm 1 on one engine, without Ray: `process.RolloutProcess` puts it behind calls.

    Args:
        engine: Engine that holds the policy.
        model: Model settings; they define how a prompt becomes tokens.
        rollout: Settings of sampling, candidates and lookahead.
        detector: Name and settings of the detectors.
        seed: Seed of the run.
    """

    def __init__(
        self, engine: TokenEngine, model: ModelConfig, rollout: RolloutConfig, detector: DetectorConfig, seed: int
    ) -> None:
        self._engine = engine
        self._model = model
        self._config = rollout
        self._detectors = detector.detectors()
        self._detector_config = detector
        self._seed = seed
        self._truncation = truncation_of(rollout, seed)
        self.clock = WorkClock()
        """Noted with every token that is sampled and every request that is done, those of the canary left out."""
        self.name = "local"
        """Name of this worker in the candidate groups that it makes."""
        self._mirror: WeightMirror | None = None
        """Copy of the weights that differences are applied to; None as long as updates bring all weights."""
        self._kv_cache_usage = 0.0
        """Largest value since a batch was last finished."""
        self._num_started = self._num_failed = 0
        """Rollouts that were started, and those of them that raised."""
        self._canary: Canary | None = None
        self._tokenizer = load_tokenizer(model)
        # Special tokens that begin or end a part of an answer are read by the detector, so they need their text.
        self._token_bytes = TokenBytes(self._tokenizer, visible=all_markers().kinds if detector.segments else ())
        self._has_parts = detector.segments is not None
        self._markers = markers_of({str(token) for token in self._tokenizer.added_tokens_decoder.values()})

    @property
    def engine(self) -> TokenEngine:
        """The engine that holds the policy."""
        return self._engine

    @property
    def version(self) -> int:
        """Policy version of the loaded weights."""
        return self._engine.version

    @property
    def interventions(self) -> int:
        """Tokens so far before which a decoding rule has changed which one is the most probable.

        Raises:
            ConfigError: The engine does not apply rules.
        """
        if not isinstance(self._engine, DecodingEngine):
            raise ConfigError(
                f"rollout.engine {self._config.engine} cannot change the logits of a token, which this decoding method "
                f"needs: use vllm or transformers"
            )
        return self._engine.interventions

    def run_batch(self, prompts: Sequence[Prompt]) -> RolloutReport:
        """Roll out one batch to the end.

        Returns:
            An outcome for every prompt, and a candidate group for every informative confusion point.

        Raises:
            TlpoError, RuntimeError: Too many rollouts raised.
        """
        batch = self.begin_batch(prompts)
        while not batch.done:
            self.step()
        return self.finish_batch(batch)

    def begin_batch(self, prompts: Sequence[Prompt]) -> RolloutBatch:
        """Start the rollouts of a batch beside those that are under way; `step` advances all of them."""
        encoded, skipped = self.encode(prompts)
        batch = RolloutBatch(size=len(prompts), skipped=skipped)
        for prompt, ids in encoded:
            rendered = RenderedPrompt(prompt=prompt, prompt_ids=ids, detector=self._detector(prompt, ids))
            start(self._engine, self._guarded(rendered, batch), lambda nothing: None)
        return batch

    def _detector(self, prompt: Prompt, prompt_ids: Sequence[int]) -> detectors.Detector:
        """Return the detector for the answer to a prompt, which may have opened the thoughts."""
        detector = self._detectors[prompt.language]
        if not isinstance(detector, detectors.SegmentedDetector):
            return detector
        return detector.with_markers(self._markers).beginning_in(self._part_after(prompt_ids))

    def _part_after(self, prompt_ids: Sequence[int]) -> Part:
        """Return the part that an answer to a prompt begins in."""
        return part_after(self._tokenizer.decode(prompt_ids[-MOST_OF_TURN:]))

    def step(self) -> None:
        """Run one step of the engine, which advances all batches and canaries that are under way."""
        self._engine.step()
        self._kv_cache_usage = max(self._kv_cache_usage, self._engine.kv_cache_usage)

    def finish_batch(self, batch: RolloutBatch) -> RolloutReport:
        """Return the report of a batch that is done."""
        usage, self._kv_cache_usage = self._kv_cache_usage, self._engine.kv_cache_usage
        return batch.report(usage)

    def load(self, update: WeightUpdate, tolerance: float) -> float:
        """Load a policy version, and compare the canary; no batch may be under way.

        If `update` carries only metadata (broadcast), this blocks until the broadcast arrives.

        Args:
            update: Weights, or the metadata of those that a broadcast will bring, with the learner's canary.
            tolerance: Largest accepted |Δ log-probability| in nats (`flow.canary_tolerance`).

        Returns:
            Largest |Δ log-probability| over the canary's tokens, in nats; 0 without a canary.

        Raises:
            WeightSyncError: It exceeds `tolerance`.
        """
        if isinstance(self._engine, SleepingEngine):
            self._engine.wake()
        if update.incoming:
            self._broadcast_engine().receive_weights(update.incoming, update.version)
        else:
            self._engine.load_weights(self._buckets(update), update.version)
        self._canary = update.canary
        if update.canary is None:
            return 0.0
        (candidates,) = run_all(self._engine, [canary_request(update.canary)])
        return canary_difference(update.canary, candidates, tolerance)

    def begin_canary_check(self, tolerance: float) -> CanaryCheck:
        """Generate the canary again, beside the batches that are under way; `step` advances it.

        Args:
            tolerance: Largest accepted |Δ log-probability| in nats (`flow.canary_tolerance`).
        """
        check = CanaryCheck(canary=self._canary, tolerance=tolerance)
        if self._canary is not None:
            self._engine.submit(canary_request(self._canary), check.receive)
        return check

    def sleep(self) -> None:
        """Release the engine's GPU memory until weights are next loaded; nothing may be under way."""
        assert isinstance(self._engine, SleepingEngine), f"{type(self._engine).__name__} cannot sleep"
        self._engine.sleep()

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Join the learner's broadcast group, so that `load` can receive weights from it."""
        self._broadcast_engine().join_broadcast(rendezvous, rank)

    def generate(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        decoding: DecodingConfig | None = None,
    ) -> list[Completion]:
        """Sample complete answers; prompts that cannot be answered, e.g. for want of room, get no completions.

        Args:
            prompts: Prompts in any order.
            samples: Answers per prompt.
            temperature: Sampling temperature; 0 is greedy.
            max_new_tokens: Maximum length of an answer in tokens.
            seed: Seed of the evaluation; an answer's own is derived from it, its prompt and its number.
            decoding: Decoding method; None samples as the model has it.

        Raises:
            ConfigError: The engine cannot decode by this method.
            Exception: Whatever a detector raises, if the method asks it.
        """
        decoding = decoding or DecodingConfig()
        if decoding.method in (*RULES, "retry"):
            _ = self.interventions  # raises where rules would have no effect
        settings = AnswerSettings(
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
            decoding=decoding,
            english=self._detector_config.english,
        )
        encoded, _ = self.encode(prompts)
        coroutines = [
            self._complete(prompt, ids, sample, settings) for prompt, ids in encoded for sample in range(samples)
        ]
        return run_coroutines(self._engine, coroutines)

    def _complete(
        self, prompt: Prompt, ids: tuple[int, ...], sample: int, settings: AnswerSettings
    ) -> RolloutCoroutine[Completion]:
        begins_in: Part = self._part_after(ids) if self._has_parts else "answer"
        rendered = RenderedPrompt(prompt=prompt, prompt_ids=ids, detector=self._detector(prompt, ids))
        room, stop_strings = self._engine.max_context - len(ids), self._model.stop_strings
        completion = yield from complete_answer(
            rendered, sample, settings, room, self._token_bytes, stop_strings, self.clock
        )
        return replace(completion, begins_in=begins_in)

    def encode(self, prompts: Sequence[Prompt]) -> tuple[list[EncodedPrompt], list[PromptResult]]:
        """Return prompts as tokens, and the results of those that cannot be answered, with the reason."""
        return encode_prompts(self._tokenizer, self._model, self._engine.max_context, prompts)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _buckets(self, update: WeightUpdate) -> Iterable[Bucket]:
        """Return all weights of a policy version, whether the update brings them or the changes to earlier ones."""
        if len(update.deltas) == 1 and self._mirror is None:
            return update.deltas[0].buckets
        following, self._mirror = self._mirror is not None, self._mirror or WeightMirror()
        try:
            self._mirror.apply(update.since(self.version) if following else update.deltas)
        except WeightSyncError:
            # The learner was restarted, and its weights may differ in a bit from those that were mirrored. Begin anew
            # with all deltas of the update, the first of which is full.
            self._mirror = WeightMirror()
            self._mirror.apply(update.deltas)
        return [self._mirror.bucket()]

    def _broadcast_engine(self) -> BroadcastEngine:
        assert isinstance(self._engine, BroadcastEngine), f"{type(self._engine).__name__} takes no broadcasts"
        return self._engine

    def _guarded(self, rendered: RenderedPrompt, batch: RolloutBatch) -> RolloutCoroutine[None]:
        """Roll out one prompt of a batch, and contain what it raises.

        An exception skips this prompt and no other, because answers are arbitrary text and detectors may be anybody's
        code. When it happens too often the batch fails: skipping would then hide a fault, and drain the prompts.
        """
        self._num_started += 1
        try:
            finished = yield from observed(self._roll_out(rendered), partial(self._note_progress, batch))
            batch.finished.append(finished)
        except Exception as error:
            self._num_failed += 1
            reason = _failure_reason(error)
            too_many = self._num_failed > max(MAX_FAILURES, MAX_FAILURE_SHARE * self._num_started)
            if batch.error is None and too_many:
                # Not the exception itself: its message may contain a prompt, and errors of actors are logged.
                batch.error = error if isinstance(error, TlpoError) else RuntimeError(reason)
            batch.skipped.append(
                PromptResult(prompt_index=rendered.prompt.index, outcome=Outcome.SKIPPED, reason=reason)
            )

    def _note_progress(self, batch: RolloutBatch, tokens: int) -> None:
        batch.tokens += tokens
        self.clock.note()

    def _roll_out(self, rendered: RenderedPrompt) -> RolloutCoroutine[tuple[Rollout, CandidateGroup | None]]:
        """Return answer, confusion point, candidate set and rewards of one prompt; no group if the answer is clean."""
        config, token_bytes = self._config, self._token_bytes
        rollout = yield from sample_answer(
            rendered, self._engine, token_bytes, config, self._seed, self._model.stop_strings, self._truncation
        )
        if rollout.point is None:
            return rollout, None
        candidates = yield from candidate_set(rollout, self.version, config, self._seed)
        scorer = CandidateScorer(
            rollout, token_bytes, rendered.detector, self._engine.eos_ids, self._model.stop_strings
        )
        scores = yield from score_candidates(candidates, context_of(rollout), scorer, config)
        return rollout, self._group(rollout, rendered.detector, candidates, scores)

    def _group(
        self, rollout: Rollout, detector: detectors.Detector, candidates: CandidateSet, scores: CandidateScores
    ) -> CandidateGroup:
        point = rollout.point
        assert point is not None
        return CandidateGroup(
            prompt_index=rollout.prompt.index,
            prompt_id=rollout.prompt.id,
            language=rollout.prompt.language,
            context_ids=np.asarray(context_of(rollout), np.int32),
            prompt_length=len(rollout.prompt_ids),
            candidate_ids=candidates.token_ids,
            old_logp=candidates.logp,
            rewards=scores.rewards,
            sampling_version=self.version,
            detector_version=detector.version,
            response=point.response,
            span_start=point.finding.start,
            span_end=point.finding.end,
            span_kind=point.finding.kind,
            lookaheads=scores.lookaheads,
            actor=self.name,
        )


def build_worker(
    model: ModelConfig,
    rollout: RolloutConfig,
    detector: DetectorConfig,
    seed: int,
    weight_transfer: str = "object_store",
    lora: LoraConfig | None = None,
    *,
    sleeps: bool = False,
) -> RolloutWorker:
    """Return a worker on the engine that `rollout.engine` names.

    Args:
        model: Model settings.
        rollout: Settings of the engine, and of sampling, candidates and lookahead.
        detector: Name and settings of the detectors.
        seed: Seed of the run.
        weight_transfer: How weights will arrive (`flow.weight_transfer`).
        lora: Adapter that is trained; None if all weights are.
        sleeps: Whether `RolloutWorker.sleep` will be used.

    Raises:
        ConfigError: The engine is not installed, or importing it fails.
        ModelError: The model cannot be loaded.
    """
    load_tokenizer(model)  # a missing model is reported in one line before an engine starts
    factory: EngineFactory = load_plugin(ROLLOUT_ENGINES, rollout.engine)
    options = EngineOptions(seed=seed, weight_transfer=weight_transfer, lora=lora, sleeps=sleeps)
    return RolloutWorker(factory(model, rollout, options), model, rollout, detector, seed)


def _failure_reason(error: Exception) -> str:
    """Return kind and place of an error, without its message, which may contain a prompt."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"its rollout raised {type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
