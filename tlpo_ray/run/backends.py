"""Asks two engines the same before a run: is the confusion the model's, or that of the software that runs it?

Both engines get the same tokens and the same sampling settings, so whatever differs is how they compute the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING

import detectors
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, load_plugin
from tlpo_ray.config.run import RolloutConfig, RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.evaluation.keeping import answer_row, judging, kept
from tlpo_ray.evaluation.own_process import run_in_own_process
from tlpo_ray.evaluation.sampling import CPU_KV_CACHE_MIB, OnProgress, on_gpu
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

if TYPE_CHECKING:
    from actors.completions import Completion

ANSWERS = 64
"""Prompts that each engine is asked, once greedily and once at the run's temperature."""
PROBES = 8
"""Tokens of an answer at which log-probabilities are compared."""
OTHER_ENGINE: Mapping[str, RolloutEngine] = {"transformers": "vllm"}
"""Engine that another is compared with; transformers for all that are not named."""
_Probe = tuple[tuple[int, ...], int]
"""Context and next token."""


class Origin(StrEnum):
    """Where confusion comes from."""

    MODEL = "model"
    BACKEND = "backend"
    BOTH = "both"
    NEITHER = "neither"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """An engine with the model that it runs.

    Example: ``Backend(engine="transformers", model=config.model.model_copy(update={"dtype": "float32"}))``
    """

    engine: RolloutEngine
    model: ModelConfig

    @property
    def name(self) -> str:
        """Name as messages show it."""
        name: str = load_plugin(ROLLOUT_ENGINES, self.engine).display_name
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedAnswers:
    """Number of confused answers among all."""

    confused: int
    answers: int

    @property
    def rate(self) -> float:
        """Share of confused answers."""
        return self.confused / self.answers

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate."""
        return detectors.wilson_interval(self.confused, self.answers)

    def __add__(self, other: ConfusedAnswers) -> ConfusedAnswers:
        return ConfusedAnswers(confused=self.confused + other.confused, answers=self.answers + other.answers)

    def to_json(self) -> dict[str, object]:
        """Return counts, rate and interval."""
        return {
            "confused": self.confused, "answers": self.answers, "rate": self.rate, "interval_95": list(self.interval)
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendReport:
    """Confusion of the answers of one engine."""

    name: str
    """Name of the engine; with folder and data type of the model where only these differ."""
    greedy: ConfusedAnswers
    sampled: ConfusedAnswers
    """At the run's temperature."""

    @property
    def total(self) -> ConfusedAnswers:
        """All answers together."""
        return self.greedy + self.sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The place where two greedy answers to one prompt first differ."""

    prompt_id: str
    position: int
    """Number of tokens that they have in common."""
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendComparison:
    """Answers of two engines to the same prompts.

    Example: ``print(compare_backends(load_config("qwen3-8b-ko")).verdict)``
    """

    backends: tuple[BackendReport, BackendReport]
    """The run's engine first."""
    temperature: float
    equal_greedy: int
    """Number of prompts with the same greedy answer, token by token."""
    first_parting: Parting | None
    """Of the greedy answers that differ, the pair that differs earliest; None if all are equal."""
    logp_difference: float
    """Mean |Δ log-probability| of sampled tokens after the same contexts, in nats."""
    largest_logp_difference: float
    probes: int
    """Number of tokens that were compared."""
    tolerance: float
    """Mean difference up to which the engines compute the same (`flow.canary_tolerance`), in nats."""
    prompts_skipped: int
    """Prompts that could not be asked, e.g. because they are too long."""

    @property
    def computes_the_same(self) -> bool:
        """Whether the engines give tokens the same probabilities, up to the tolerance."""
        return self.logp_difference <= self.tolerance

    @property
    def origin(self) -> Origin:
        """Where confusion comes from.

        The rates decide where their intervals are apart. Otherwise confusion of only one engine is the model's if both
        compute the same, because then the other was merely lucky.
        """
        less, more = sorted((backend.total for backend in self.backends), key=lambda total: total.rate)
        if not more.confused:
            return Origin.NEITHER
        if less.interval[1] < more.interval[0]:
            return Origin.BOTH if less.confused else Origin.BACKEND
        return Origin.MODEL if less.confused or self.computes_the_same else Origin.UNCERTAIN

    @property
    def verdict(self) -> str:
        """What that means, and what to do, in one line."""
        less, more = sorted(self.backends, key=lambda backend: backend.total.rate)
        rates = " and ".join(f"{backend.total.rate:.1%} of the answers of {backend.name}" for backend in self.backends)
        check = (
            f"check how {more.name} computes it: data type (model.dtype), attention backend, quantization, and "
            f"whether it has loaded the same weights"
        )
        line = {
            Origin.MODEL: f"the confusion comes from the model: {rates} are confused; train",
            Origin.BACKEND: f"the confusion comes from the backend: {rates} are confused; do not train, {check}",
            Origin.BOTH: f"the model confuses languages, and {more.name} more often than {less.name}: {rates} are "
            f"confused; before training, {check}",
            Origin.NEITHER: f"nothing to repair: none of the answers is confused, which leaves a rate of at most "
            f"{more.total.interval[1]:.1%}; if the model confuses languages elsewhere, compare chat template, "
            f"tokenizer mode, generation_config and quantization there with this run's",
            Origin.UNCERTAIN: f"uncertain: {rates} are confused, too few to rule out chance; ask more with --answers",
        }[self.origin]
        if self.computes_the_same:
            return line
        differs = f"log-probabilities of the same tokens differ by {self.logp_difference:.2g} nats on average"
        return f"{line}; the engines do not compute the same: {differs}"

    def to_json(self) -> dict[str, object]:
        """Return all figures and the verdict."""
        parting = self.first_parting
        return {
            "origin": str(self.origin), "verdict": self.verdict, "temperature": self.temperature,
            "backends": [
                {"name": each.name, "greedy": each.greedy.to_json(), "sampled": each.sampled.to_json()}
                for each in self.backends
            ],
            "equal_greedy": self.equal_greedy, "first_parting": None if parting is None else {
                "prompt": parting.prompt_id, "position": parting.position, "answers": list(parting.answers)
            },
            "logp_difference": self.logp_difference, "largest_logp_difference": self.largest_logp_difference,
            "probes": self.probes, "tolerance": self.tolerance, "prompts_skipped": self.prompts_skipped,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """What a backend is asked."""

    prompts: Sequence[Prompt]
    rollout: RolloutConfig
    seed: int
    probes: Sequence[_Probe] | None
    """Tokens to give probabilities of; None chooses them from the sampled answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    greedy: Sequence[Completion]
    sampled: Sequence[Completion]
    probes: Sequence[_Probe]
    logp: Sequence[float]
    """Natural-log probability of each probe's token."""


def compare_backends(
    config: RunConfig, *, answers: int = ANSWERS, against: Backend | None = None, progress: ProgressListener = SILENT
) -> BackendComparison:
    """Ask a run's engine and another one the run's prompts, and compare their answers; nothing is trained.

    Each engine answers every prompt twice: greedily, and at the run's temperature with the same seed.

    Args:
        config: The run; its cluster and its learner are not used.
        answers: Number of prompts, evenly spaced over those of the run.
        against: What the run's engine is compared with; None takes the other one of vLLM and transformers, with the
            run's model.
        progress: Receives one phase per engine.

    Raises:
        ConfigError: The run names no prompts, or vLLM or another engine is not installed.
        PromptFileError: The prompts cannot be read.
        ModelError: The model cannot be loaded.
        UserError: No prompt can be asked.
        JudgeError: The detector fails on an answer; the message says where all answers are.
        TlpoError: The process of an engine died.
    """
    from actors.chat import check_model, with_date

    if not config.data.prompts:
        raise ConfigError("data.prompts is not set: the engines need prompts to answer")
    check_model(config.model)
    read = load_prompts(config.data, config.detector, config.seed).prompts
    prompts = [read[number * len(read) // min(answers, len(read))] for number in range(min(answers, len(read)))]
    first = Backend(engine=config.rollout.engine, model=with_date(config.model))
    second = against or Backend(engine=OTHER_ENGINE.get(first.engine, "transformers"), model=first.model)
    if "vllm" in (first.engine, second.engine) and find_spec("vllm") is None:
        raise ConfigError("two engines are needed, and vLLM is not installed: pip install 'tlpo-ray[gpu]' or [cpu]")
    probes: Sequence[_Probe] | None = None
    answered: list[_Answers] = []
    for backend in (first, second):
        questions = _Questions(
            prompts=prompts, rollout=_rollout(config.rollout, backend.engine), seed=config.seed, probes=probes
        )
        answered.append(_ask(backend, questions, progress))
        probes = answered[0].probes
    return _compare(config, prompts, (first, second), answered)


def _rollout(rollout: RolloutConfig, engine: RolloutEngine) -> RolloutConfig:
    """Return a run's settings for one of the engines, which may lack what it needs."""
    room = rollout.kv_cache_mib if on_gpu() else rollout.kv_cache_mib or CPU_KV_CACHE_MIB
    return rollout.model_copy(update={"engine": engine, "kv_cache_mib": room})


def _ask(backend: Backend, questions: _Questions, progress: ProgressListener) -> _Answers:
    # On a GPU each has a process of its own: its memory is certain to be free for the next one only when that ends.
    apart = load_plugin(ROLLOUT_ENGINES, backend.engine).needs_own_process or on_gpu()
    with progress.phase(f"{len(questions.prompts):,} prompts · {backend.name}") as update:

        def show(done: int, total: int) -> None:
            update(f"{done:,} of {total:,} answers · {backend.name}", done / total)

        if apart:
            return run_in_own_process("asks an engine", show, _answer, backend.model, questions)
        return _answer(backend.model, questions, show)


def _answer(model: ModelConfig, questions: _Questions, on_progress: OnProgress) -> _Answers:
    """Answer all prompts in this process."""
    from actors.engine import run_all
    from actors.requests import TopKRequest
    from actors.worker import build_worker

    rollout, prompts, done = questions.rollout, questions.prompts, 0
    worker = build_worker(model, rollout, DetectorConfig(), questions.seed)
    try:
        greedy: list[Completion] = []
        sampled: list[Completion] = []
        for completions, temperature in ((greedy, 0.0), (sampled, rollout.temperature)):
            for start in range(0, len(prompts), rollout.concurrency):
                batch = prompts[start : start + rollout.concurrency]
                completions += worker.generate(batch, 1, temperature, rollout.max_new_tokens, questions.seed)
                on_progress(done := done + len(batch), 2 * len(prompts))
        probes = questions.probes
        if probes is None:
            ids = {prompt.index: prompt_ids for prompt, prompt_ids in worker.encode(prompts)[0]}
            probes = [probe for answer in sampled for probe in _probes(ids[answer.prompt_index], answer.token_ids)]
        requests = [TopKRequest(context_ids=context, n=1, include=token) for context, token in probes]
        logp = [float(candidates.logp[0]) for candidates in run_all(worker.engine, requests)]
    finally:
        worker.close()
    return _Answers(greedy=greedy, sampled=sampled, probes=probes, logp=logp)


def _probes(prompt_ids: tuple[int, ...], answer: Sequence[int]) -> list[_Probe]:
    """Return tokens of an answer, evenly spaced, each with its context."""
    count = min(PROBES, len(answer))
    positions = [number * len(answer) // count for number in range(count)]
    return [((*prompt_ids, *answer[:position]), answer[position]) for position in positions]


def _compare(
    config: RunConfig, prompts: Sequence[Prompt], backends: tuple[Backend, Backend], answered: Sequence[_Answers]
) -> BackendComparison:
    first, second = answered
    if not first.greedy:
        raise UserError(f"{config.data.prompts}: none of {len(prompts)} prompts can be asked: all are too long")
    by_index = {prompt.index: prompt for prompt in prompts}
    rows = [
        answer_row(
            by_index[answer.prompt_index], answer.sample, answer.text, finished=answer.finished,
            tokens=len(answer.token_ids),
        )
        for each in answered
        for answer in (*each.greedy, *each.sampled)
    ]  # fmt: skip
    names = _names(backends)
    with kept(None, rows, "tlpo evaluate --answers {file} judges them"):
        reports = [
            BackendReport(
                name=name, greedy=_confused(config.detector, by_index, each.greedy),
                sampled=_confused(config.detector, by_index, each.sampled),
            )
            for name, each in zip(names, answered, strict=True)
        ]  # fmt: skip
    others = {answer.prompt_index: answer for answer in second.greedy}
    both = [(answer, others[answer.prompt_index]) for answer in first.greedy if answer.prompt_index in others]
    partings = [
        Parting(prompt_id=by_index[one.prompt_index].id, position=position, answers=(one.text, other.text))
        for one, other in both
        if (position := _common(one.token_ids, other.token_ids)) is not None
    ]
    differences = [abs(one - other) for one, other in zip(first.logp, second.logp, strict=True)]
    return BackendComparison(
        backends=(reports[0], reports[1]),
        temperature=config.rollout.temperature,
        equal_greedy=len(both) - len(partings),
        first_parting=min(partings, key=lambda parting: parting.position, default=None),
        logp_difference=sum(differences) / len(differences) if differences else 0.0,
        largest_logp_difference=max(differences, default=0.0),
        probes=len(differences),
        tolerance=config.flow.canary_tolerance,
        prompts_skipped=len(prompts) - len(first.greedy),
    )


def _names(backends: tuple[Backend, Backend]) -> tuple[str, str]:
    first, second = backends
    if first.engine != second.engine:
        return first.name, second.name
    one, other = (f"{backend.name} with {backend.model.path} in {backend.model.dtype}" for backend in backends)
    return one, other


def _confused(
    detector: DetectorConfig, prompts: Mapping[int, Prompt], answers: Sequence[Completion]
) -> ConfusedAnswers:
    by_language = detectors.DetectorSet(detector.name, detector.english, detector.settings)
    confused = 0
    for answer in answers:
        prompt = prompts[answer.prompt_index]
        with judging(f"an answer to {prompt.id!r} in {prompt.language}"):
            confused += detectors.find(answer.text, by_language[prompt.language]) is not None
    return ConfusedAnswers(confused=confused, answers=len(answers))


def _common(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return how many tokens two answers have in common at their beginnings; None if they are equal."""
    if one == other:
        return None
    shared = (number for number, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(shared, min(len(one), len(other)))
