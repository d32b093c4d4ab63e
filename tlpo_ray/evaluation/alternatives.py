"""What decoding methods reach on a model as it is, each beside plain sampling in the same run: is training needed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.chat import check_conversations
from detectors import code_or_name
from tlpo_ray.config.decoding import METHODS, DecodingConfig
from tlpo_ray.config.detector import DetectorConfig, English
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.evaluation.evaluate import item_answers, prompt_items, prompts_of
from tlpo_ray.evaluation.generation import model_for_sampling, select_prompts
from tlpo_ray.evaluation.judge import ANSWERS, ItemAnswer, Json, Judge, Judgement, total
from tlpo_ray.evaluation.keeping import kept
from tlpo_ray.evaluation.output import refuse_used, write_output
from tlpo_ray.evaluation.sampling import Cost, Sampling, answers_of, checked_engine, sampling_worker, skip_reasons
from tlpo_ray.evaluation.suites import SUITES, Item, select_items
from tlpo_ray.evaluation.suites.wanted import LANGUAGES
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

PLAIN, WANTED = "plain", "wanted"
GOOD_ENOUGH = 0.99
"""RPR from which a method is enough by itself."""
CHEAP = 1.1
"""Time per token, relative to plain sampling, up to which a method is cheap."""
KEPT, ANSWERED = 0.9, 0.9
"""Shares of plain sampling's foreign text that is wanted, and of its answers with words, that a method has to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativesRequest:
    """Which model to ask what, and by which methods.

    Example: ``AlternativesRequest(model="runs/quickstart/model", prompts="prompts.jsonl", language="ko")``
    """

    model: str
    """Folder or hub name."""
    prompts: str
    """Prompt file, folder or hub dataset."""
    language: str
    """Language of the prompts, in which the answers should be."""
    english: English = "neutral"
    """Meaning of English words."""
    methods: tuple[str, ...] = METHODS
    """Decoding methods, as `DecodingConfig.parse` reads them; plain sampling is always among them."""
    limit: int = 60
    """Largest number of prompts."""
    wanted: int = 24
    """Number of prompts of the suite `wanted` that are asked beside them; none in a language that it lacks."""
    samples: int = 1
    """Answers per prompt."""
    temperature: float = 0.6
    """Sampling temperature of all methods but `greedy`."""
    max_new_tokens: int = 128
    """Longest answer in tokens."""
    engine: RolloutEngine = "vllm"
    """Rollout engine that samples."""
    seed: int = 0
    like: str | None = None
    """Preset or YAML file that says how prompts are presented to the model."""

    def __post_init__(self) -> None:
        """Take any name of the language for its code."""
        object.__setattr__(self, "language", code_or_name(self.language))


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """What one method has reached, and what it has cost."""

    method: DecodingConfig
    judgement: Judgement
    cost: Cost
    wanted: float | None
    """Share of the prompts that ask for foreign text whose answers have it; None if none were asked."""
    times_plain: float
    """Time per token, relative to plain sampling."""

    def to_json(self) -> Json:
        """Return the method's row of `result.json`."""
        return {
            "method": str(self.method), "times_plain": round(self.times_plain, 3), "wanted": self.wanted,
            **self.cost.to_json(), **self.judgement.to_json(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativesResult:
    """One result per method, plain sampling first."""

    request: AlternativesRequest
    methods: tuple[MethodResult, ...]

    @property
    def advice(self) -> str:
        """What the figures say about training, in a sentence or two."""
        plain, *others = self.methods
        if _rpr(plain) >= GOOD_ENOUGH:
            return f"{_share(plain)} pass without any change: there is little to repair."
        if not others:
            return f"{_share(plain)} pass without any change; no other method was compared."
        # A method that silences the model leaves nothing to fail: it must answer about as often as plain sampling.
        words = ANSWERED * _with_words(plain)
        enough = [each for each in others if _rpr(each) >= GOOD_ENOUGH and _with_words(each) >= words]
        kept = [each for each in enough if each.wanted is None or each.wanted >= KEPT * (plain.wanted or 0)]
        cheap = [each for each in kept if each.times_plain <= CHEAP]
        if cheap:
            best = min(cheap, key=lambda each: each.times_plain)
            return (
                f"You may not need to train: with {best.method}, {_share(best)} pass, at {best.times_plain:.2f} times "
                f"the time per token of plain sampling."
            )
        if kept:
            best = min(kept, key=lambda each: each.times_plain)
            return (
                f"With {best.method}, {_share(best)} pass, but every answer takes {best.times_plain:.2f} times as long "
                f"per token: training pays off if you serve many."
            )
        best = max(enough or others, key=_rpr)
        rates, reason = best.judgement.rates, ""
        if best in enough:
            reason = ", and it loses foreign text that is wanted"
        elif rates.empty:
            reason = f" that have a word of the language; {rates.empty:,} of {rates.answers:,} have none"
        return f"No method is enough: the best is {best.method} with {_share(best)}{reason}. Train."

    def to_json(self) -> Json:
        """Return the content of `result.json`."""
        request = self.request
        return {
            "model": request.model, "prompts": request.prompts, "language": request.language,
            "english": request.english, "samples": request.samples, "temperature": request.temperature,
            "max_new_tokens": request.max_new_tokens, "engine": request.engine, "limit": request.limit,
            "seed": request.seed, "like": request.like, "advice": self.advice,
            "methods": [each.to_json() for each in self.methods], "stack": stack_versions(),
        }  # fmt: skip


def compare_alternatives(
    request: AlternativesRequest, progress: ProgressListener = SILENT, output: Path | None = None
) -> AlternativesResult:
    """Answer the same prompts by each method, on one engine that is loaded once.

    Args:
        request: What to compare; checked before the model is loaded.
        progress: Receives a phase for each method.
        output: Folder for `answers.jsonl`, with the answers of all methods, and `result.json`; None writes none.

    Raises:
        UnknownLanguageError: The language has no detector.
        UserError: A method or the prompts are wrong, or `output` holds a result.
        ConfigError: The engine cannot apply a method.
        ModelError: The model does not exist or cannot be loaded.
        JudgeError: A detector fails on an answer; all sampled answers are kept in a file.
    """
    methods = list(dict.fromkeys(map(DecodingConfig.parse, (PLAIN, *request.methods))))
    judge = Judge(request.english)
    judge.detector(request.language)
    if output is not None:
        refuse_used(output)
    sampling = Sampling(
        samples=request.samples, temperature=request.temperature, max_new_tokens=request.max_new_tokens,
        engine=checked_engine(request.engine), seed=request.seed, detector=DetectorConfig(english=request.english),
    )  # fmt: skip
    model = model_for_sampling(request.model, sampling.max_new_tokens, request.like)
    items, prompts = _asked(request, model, progress)
    with progress.phase(f"loading {model.path} ({sampling.engine})"):
        worker = sampling_worker(model, sampling)
    try:
        # Prompts are cached, kernels warm, and vocabularies read from here on, so that no method pays for being first.
        for method in methods:
            answers_of(worker, model, prompts, replace(sampling, samples=1, max_new_tokens=2, decoding=method))
        asked: list[tuple[DecodingConfig, list[ItemAnswer], Cost]] = []
        for method in methods:
            with progress.phase(f"{len(prompts):,} prompts · {method}"):
                sampled = answers_of(worker, model, prompts, replace(sampling, decoding=method))
            asked.append((method, item_answers(items, sampled.completions), sampled.cost))
    finally:
        worker.close()
    rows = [answer.to_json() | {"decoding": str(method)} for method, answers, _ in asked for answer in answers]
    file = None if output is None else output / ANSWERS
    with kept(file, rows, "tlpo evaluate --answers {file} judges them"):
        results = _results(asked, judge)
        result = AlternativesResult(request=request, methods=tuple(results))
    if output is not None:
        _write(output, result, asked, judge)
    return result


def _asked(
    request: AlternativesRequest, model: ModelConfig, progress: ProgressListener
) -> tuple[list[Item], list[Prompt]]:
    """Return what is asked: the user's prompts, and behind them those that want foreign text."""
    selected = select_prompts(request.prompts, request.language, request.limit, request.seed, skip_bad=False)
    for line in selected.note_lines():
        progress.note(line)
    check_conversations(model, selected.examples, skip=False)
    items = prompt_items(selected)
    if request.language.split("-")[0] in LANGUAGES:  # the Chinese prompts are asked for both writings
        items += select_items(SUITES[WANTED], None, (request.language,), limit=request.wanted, seed=request.seed).items
    elif request.wanted:
        progress.note(f"the suite {WANTED} has no prompts in {request.language}: no foreign text is asked for")
    prompts = prompts_of(items)
    for reason, number in skip_reasons(model, prompts).items():
        progress.note(f"{number:,} of {len(prompts):,} prompts left out: {reason}")
    return items, prompts


def _results(asked: Sequence[tuple[DecodingConfig, list[ItemAnswer], Cost]], judge: Judge) -> list[MethodResult]:
    plain = asked[0][2].ms_per_token
    results: list[MethodResult] = []
    for method, answers, cost in asked:
        judgements = judge.judge(answers)
        wanted = [each for each in judgements if not each.rated]
        results.append(
            MethodResult(
                method=method,
                judgement=total([each for each in judgements if each.rated]),
                cost=cost,
                wanted=total(wanted).accuracy if wanted else None,
                times_plain=cost.ms_per_token / plain,
            )
        )
    return results


def _write(
    output: Path,
    result: AlternativesResult,
    asked: Sequence[tuple[DecodingConfig, list[ItemAnswer], Cost]],
    judge: Judge,
) -> None:
    rows = [judge.row(answer) | {"decoding": str(method)} for method, answers, _ in asked for answer in answers]
    write_output(output, result.to_json(), rows)


def _rpr(result: MethodResult) -> float:
    """Return the RPR of a method; 0 if no answer has a word of the language, because then none is repaired."""
    return result.judgement.rates.rpr or 0.0


def _with_words(result: MethodResult) -> int:
    return result.judgement.rates.answers - result.judgement.rates.empty


def _share(result: MethodResult) -> str:
    return f"{_rpr(result):.1%} of the answers"
