"""A rollout worker: leased prompts in, an outcome for each and candidate groups out."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import detectors
from actors.candidates import candidate_set, context_of
from actors.chat import load_tokenizer, prompt_ids
from actors.engine import BroadcastEngine, CandidateSet, SampleRequest, SleepingEngine, TokenEngine
from actors.lookahead import Rewarded, rewarded_candidates
from actors.rollout import Question, Rollout, answer_seed, sampled
from actors.tasks import Candidates, Task, one_ask
from actors.token_bytes import TokenBytes
from tlpo_ray.config.run import DetectorConfig, LoraConfig, ModelConfig, RolloutConfig
from tlpo_ray.errors import TlpoError, WeightSyncError
from tlpo_ray.flow.delta import Shadow
from tlpo_ray.flow.records import CandidateGroup, Outcome, Prompt, PromptResult, RolloutReport, readable
from tlpo_ray.flow.weights import Bucket, Canary, Rendezvous, WeightUpdate, check_canary

TOO_LONG = "longer than the context"
MISHAPS, MISHAP_SHARE = 8, 0.05
"""Prompts whose rollout may raise: so many, or this share of all. More of them are no accident."""
CANARY_CANDIDATES = 16
"""Twice what the learner sends, so that near-ties at the edge do not look like a wrong policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole sampled answer, for evaluation."""

    prompt_index: int
    sample: int
    """Number of this answer among those to the same prompt, from 0."""
    text: str
    token_ids: tuple[int, ...]
    finished: bool
    """Whether the model ended it; False when it ran out of room."""


@dataclass(slots=True, kw_only=True)
class Lot:
    """Prompts that were leased together, while they are rolled out."""

    version: int
    size: int
    skipped: list[PromptResult]
    """Those that are not rolled out, or whose rollout raised."""
    ended: list[tuple[Rollout, CandidateGroup | None]] = field(default_factory=list)
    error: Exception | None = None
    """What its rollouts raise again and again, a detector's say: the lot comes to nothing, and others go on."""

    @property
    def done(self) -> bool:
        """Whether every prompt has its outcome.

        Raises:
            Exception: what one of them raised.
        """
        if self.error is not None:
            raise self.error
        return len(self.ended) + len(self.skipped) == self.size

    def report(self, kv_use: float = 0.0) -> RolloutReport:
        """What came of a lot that is done, in the run's order of prompts."""
        ended = sorted(self.ended, key=lambda one: one[0].prompt.index)
        return RolloutReport(
            version=self.version,
            results=(*self.skipped, *(_result(rollout, group) for rollout, group in ended)),
            groups=tuple(group for _, group in ended if group is not None and group.informative),
            tokens_generated=sum(len(rollout.token_ids) for rollout, _ in ended),
            tokens_discarded=sum(
                len(rollout.token_ids) - rollout.point.last_token - 1 for rollout, _ in ended if rollout.point
            ),
            tokens_clean=sum(len(rollout.token_ids) for rollout, _ in ended if rollout.point is None),
            by_language=_by_language(rollout for rollout, _ in ended),
            kv_use=kv_use,
        )


def _by_language(rollouts: Iterable[Rollout]) -> dict[str, tuple[int, int]]:
    """Answers, and those of them without confusion."""
    found: dict[str, tuple[int, int]] = {}
    for rollout in rollouts:
        sampled, clean = found.get(rollout.prompt.language, (0, 0))
        found[rollout.prompt.language] = (sampled + 1, clean + (rollout.point is None))
    return found


def _mishap(error: Exception) -> str:
    """Kind and place of an error; not its message, in which a prompt may stand."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"its rollout raised {type(error).__name__} in {Path(last.filename).name}:{last.lineno}"


def _result(rollout: Rollout, group: CandidateGroup | None) -> PromptResult:
    outcome = Outcome.CLEAN
    if group is not None:
        outcome = Outcome.CONFUSED if group.informative else Outcome.UNINFORMATIVE
    return PromptResult(prompt_index=rollout.prompt.index, outcome=outcome)


class RolloutWorker:
    """Stages 1 to 4 of Algorithm 1 on one engine. Plain: Ray binds it in `ray_shell.py`.

    Args:
        engine: holds the policy.
        model: how a prompt becomes tokens.
        rollout: sampling, candidates, lookahead.
        detector: what counts as confusion.
        seed: of the run.
    """

    def __init__(
        self, engine: TokenEngine, model: ModelConfig, rollout: RolloutConfig, detector: DetectorConfig, seed: int
    ) -> None:
        self._engine = engine
        self._model = model
        self._config = rollout
        self._detector_config = detector
        self._detectors: dict[str, detectors.Detector] = {}
        self._seed = seed
        self.name = "local"
        """Stands in the candidate groups it makes."""
        self._shadow: Shadow | None = None
        self._kv_use = 0.0
        """Largest since a lot was last finished."""
        self._rolled = self._mishaps = 0
        """Prompts that were begun, and those of them whose rollout raised."""
        self._canary: Canary | None = None
        self._tokenizer = load_tokenizer(model)
        self._token_bytes = TokenBytes(self._tokenizer)

    @property
    def version(self) -> int:
        """Policy version of the loaded weights."""
        return self._engine.version

    def step(self, prompts: Sequence[Prompt]) -> RolloutReport:
        """Roll out one lot: an outcome for every prompt, a candidate group for every informative confusion point."""
        lot = self.begin(prompts)
        while not lot.done:
            self.turn()
        return self.finish(lot)

    def begin(self, prompts: Sequence[Prompt]) -> Lot:
        """Put a lot into the engine beside those that are under way."""
        questions, skipped = self._questions(prompts)
        lot = Lot(version=self.version, size=len(prompts), skipped=skipped)
        for question in questions:
            self._engine.start(self._caught(question, lot), lambda nothing: None)
        return lot

    def turn(self) -> None:
        """Bring all lots a step further."""
        self._engine.turn()
        self._kv_use = max(self._kv_use, self._engine.kv_use)

    def finish(self, lot: Lot) -> RolloutReport:
        """What came of a lot that is done."""
        kv_use, self._kv_use = self._kv_use, self._engine.kv_use
        return lot.report(kv_use)

    def load(self, update: WeightUpdate, tolerance: float) -> float:
        """Swap in a policy version; the canary's difference in nats (0 without a canary).

        Raises:
            WeightSyncError: it is larger than `tolerance`.
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
        (found,) = self._engine.candidates([update.canary.context_ids], CANARY_CANDIDATES)
        return check_canary(update.canary, found.token_ids.tolist(), found.logp.tolist(), tolerance)

    def begin_check(self, tolerance: float) -> Callable[[], bool]:
        """Ask the canary again beside the lots that are under way; whether the answer has come.

        Raises:
            WeightSyncError: from what is returned, when the answer is not what it was after the load.
        """
        canary = self._canary
        if canary is None:  # a run without prompts has none
            return lambda: True
        found: list[CandidateSet] = []
        self._engine.start(one_ask(Candidates(context=canary.context_ids, n=CANARY_CANDIDATES)), found.append)

        def checked() -> bool:
            for one in found:
                check_canary(canary, one.token_ids.tolist(), one.logp.tolist(), tolerance)
            return bool(found)

        return checked

    def sleep(self) -> None:
        """Give the engine's GPU memory back until weights are next loaded; nothing may be under way."""
        assert isinstance(self._engine, SleepingEngine), f"{type(self._engine).__name__} does not sleep"
        self._engine.sleep()

    def join_broadcast(self, rendezvous: Rendezvous, rank: int) -> None:
        """Meet the learner, so that `load` can take weights from its broadcasts."""
        self._broadcast_engine().join_broadcast(rendezvous, rank)

    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Answer]:
        """`samples` whole answers a prompt; prompts that leave no room for one get none."""
        asked = [
            (prompt.index, number, ids)
            for prompt in prompts
            if len(ids := self._prompt_ids(prompt)) < self._engine.max_context
            for number in range(samples)
        ]
        requests = [
            SampleRequest(
                prompt_ids=ids,
                max_new_tokens=min(max_new_tokens, self._engine.max_context - len(ids)),
                temperature=temperature,
                seed=answer_seed(seed, index, number),
            )
            for index, number, ids in asked
        ]
        return [
            Answer(
                prompt_index=index,
                sample=number,
                text=readable(self._token_bytes.text(token_ids)),
                token_ids=tuple(token_ids),
                finished=len(token_ids) < request.max_new_tokens,
            )
            for (index, number, _), request, token_ids in zip(
                asked, requests, self._engine.sample(requests), strict=True
            )
        ]

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _buckets(self, update: WeightUpdate) -> Iterable[Bucket]:
        """All weights of a policy version."""
        if len(update.steps) == 1 and self._shadow is None:
            return update.steps[0].buckets
        following, self._shadow = self._shadow is not None, self._shadow or Shadow()
        try:
            self._shadow.follow(update.since(self.version) if following else update.steps)
        except WeightSyncError:  # a learner that was made anew may differ in a bit from the one that was followed
            self._shadow = Shadow()
            self._shadow.follow(update.steps)
        return [self._shadow.bucket()]

    def _broadcast_engine(self) -> BroadcastEngine:
        assert isinstance(self._engine, BroadcastEngine), f"{type(self._engine).__name__} takes no broadcasts"
        return self._engine

    def _questions(self, prompts: Sequence[Prompt]) -> tuple[list[Question], list[PromptResult]]:
        questions: list[Question] = []
        skipped: list[PromptResult] = []
        for prompt in prompts:
            ids = self._prompt_ids(prompt)
            if len(ids) >= self._engine.max_context:
                skipped.append(PromptResult(prompt_index=prompt.index, outcome=Outcome.SKIPPED, reason=TOO_LONG))
            else:
                questions.append(Question(prompt=prompt, prompt_ids=ids, detector=self._detector(prompt)))
        return questions, skipped

    def _prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(prompt_ids(self._tokenizer, self._model, prompt.text))

    def _detector(self, prompt: Prompt) -> detectors.Detector:
        if prompt.language not in self._detectors:
            self._detectors[prompt.language] = detectors.build_detector(
                self._detector_config.name,
                prompt.language,
                self._detector_config.english,
                self._detector_config.settings,
            )
        return self._detectors[prompt.language]

    def _caught(self, question: Question, lot: Lot) -> Task[None]:
        """One prompt of a lot; what it raises is its own, unless it is no accident."""
        self._rolled += 1
        try:
            ended = yield from self._rolled_out(question)
            lot.ended.append(ended)
        except Exception as error:
            self._mishaps += 1
            index, reason = question.prompt.index, _mishap(error)
            if lot.error is None and self._mishaps > max(MISHAPS, MISHAP_SHARE * self._rolled):
                # Not as it was raised: a prompt may stand in its message, and errors of actors are logged.
                lot.error = error if isinstance(error, TlpoError) else RuntimeError(reason)
            lot.skipped.append(PromptResult(prompt_index=index, outcome=Outcome.SKIPPED, reason=reason))

    def _rolled_out(self, question: Question) -> Task[tuple[Rollout, CandidateGroup | None]]:
        """Answer, confusion point, candidate set and rewards of one prompt."""
        config, table = self._config, self._token_bytes
        rollout = yield from sampled(question, self._engine, table, config, self._seed)
        if rollout.point is None:
            return rollout, None
        chosen = yield from candidate_set(rollout, self.version, config, self._seed)
        rewarded = yield from rewarded_candidates(rollout, chosen, question.detector, table, config.lookahead_tokens)
        return rollout, self._group(rollout, chosen, rewarded)

    def _group(self, rollout: Rollout, chosen: CandidateSet, rewarded: Rewarded) -> CandidateGroup:
        point = rollout.point
        assert point is not None
        return CandidateGroup(
            prompt_index=rollout.prompt.index,
            prompt_id=rollout.prompt.id,
            language=rollout.prompt.language,
            context_ids=np.asarray(context_of(rollout), np.int32),
            prompt_length=len(rollout.prompt_ids),
            candidate_ids=chosen.token_ids,
            old_logp=chosen.logp,
            rewards=rewarded.rewards,
            sampling_version=self.version,
            probing_version=self.version,
            detector_version=self._detector(rollout.prompt).version,
            response=point.response,
            span_start=point.found.index,
            span_end=point.found.end,
            span_script=point.found.script,
            lookaheads=rewarded.lookaheads,
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
    """A worker on the engine that the configuration names.

    Args:
        sleeps: whether `sleep` is to be used.

    Raises:
        ModelError: the model cannot be loaded.
    """
    engine: TokenEngine
    load_tokenizer(model)  # a model that is not there is told in one line before an engine starts
    if rollout.engine == "vllm":
        from actors.vllm_engine import VLLMEngine

        engine = VLLMEngine(model, rollout, seed, weight_transfer, lora, sleeps=sleeps)
    else:
        from actors.hf_engine import TransformersEngine

        engine = TransformersEngine(model, rollout, lora)
    return RolloutWorker(engine, model, rollout, detector, seed)
