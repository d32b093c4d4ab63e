"""Pass rates and accuracy of answers: sampled now from a model, saved earlier, or logged by lm-eval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import detectors
from actors.chat import TOO_LONG, check_conversations
from actors.completions import Completion
from tlpo_ray.config.decoding import DecodingConfig
from tlpo_ray.config.detector import DetectorConfig, English, SegmentsConfig
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.prompts import PromptSet
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.generation import generate, model_for_sampling, select_prompts
from tlpo_ray.evaluation.judge import ANSWERS, PROMPTS, ItemAnswer, Json, Judge, Judgement, read_answers, total
from tlpo_ray.evaluation.keeping import kept
from tlpo_ray.evaluation.output import refuse_used, write_output
from tlpo_ray.evaluation.sampling import Sampling, SamplingCounts, checked_engine, skip_reasons
from tlpo_ray.evaluation.suites import SUITES, Item, Suite, select_items
from tlpo_ray.evaluation.suites.suite import PAPER_LANGUAGES
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

TEMPERATURE, MAX_NEW_TOKENS = 0.6, 512
"""Defaults where neither the request nor a suite sets them."""
SOURCES = ("prompts", "suite", "answers", "lm_eval")
"""Fields of a request that say where the answers come from."""
SAMPLED = ("prompts", "suite")
"""Sources that need a model, because their answers do not exist yet."""
GENERATED = (*SAMPLED, "accuracy")
"""Fields for which the model writes answers."""
WITH_MODEL = (*GENERATED, "perplexity")
"""Fields that need a model; the last two are further sources on the command line, see the modules of these names."""
GOES_WITH = {
    "source": ("suite", "accuracy"), "tasks": ("lm_eval",), "samples": SAMPLED, "temperature": SAMPLED,
    "max_new_tokens": GENERATED, "engine": GENERATED, "limit": WITH_MODEL, "seed": WITH_MODEL, "like": GENERATED,
    "skip_bad": WITH_MODEL,
    "decoding": SAMPLED, "english": (*SAMPLED, "answers", "lm_eval"), "segments": (*SAMPLED, "answers", "lm_eval"),
}  # fmt: skip
"""Fields of a request that have an effect with some sources only, each with those sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What to evaluate and how. Exactly one of `prompts`, `suite`, `answers` and `lm_eval` is given.

    A field that has no effect on that source (`GOES_WITH`) must keep its default.

    Example: ``EvaluateRequest(model="runs/quickstart/model", suite="mif", languages=("ko",), engine="transformers")``
    """

    model: str | None = None
    """Folder or hub name of the model that answers `prompts` or a `suite`; None for answers that already exist."""
    prompts: str | None = None
    """Prompt file, folder or hub dataset; needs exactly one language."""
    suite: str | None = None
    """Name of a built-in suite."""
    source: str | None = None
    """File, folder or hub dataset with the suite's records; None takes the suite's own."""
    answers: Path | None = None
    """Saved answers: an `answers.jsonl`, or the folder that holds one."""
    lm_eval: Path | None = None
    """Sample logs of `lm-eval --log_samples`: a file, or a folder of them."""
    tasks: tuple[str, ...] = ()
    """lm-eval tasks to read; empty takes those that the paper judges."""
    languages: tuple[str, ...] = ()
    """Languages that the answers should be in; empty takes the paper's four (suite) or all (existing answers)."""
    english: English = "neutral"
    """"neutral": English is never confusion; "confusion": it always is."""
    samples: int = 1
    """Answers per prompt."""
    temperature: float | None = None
    """Sampling temperature; None takes the suite's, else 0.6."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None takes the suite's, else 512."""
    engine: RolloutEngine = "vllm"
    """Rollout engine that samples."""
    limit: int | None = None
    """Largest number of prompts (of a suite: per language)."""
    seed: int = 0
    skip_bad: bool = False
    """Count records that cannot be read instead of raising."""
    like: str | None = None
    """Preset or YAML file that says how prompts are presented to the model."""
    decoding: str = "plain"
    """Decoding method by which the answers are sampled, as `DecodingConfig.parse` reads it."""
    segments: Mapping[str, str] | None = None
    """How each part of an answer is judged (`detector.segments`); None judges it as one text."""

    def __post_init__(self) -> None:
        """Take any names of languages for their codes."""
        object.__setattr__(self, "languages", tuple(map(detectors.code_or_name, self.languages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Answers and their rates.

    Example::

        result = evaluate(EvaluateRequest(answers=Path("kept"), english="confusion"))
        print(result.total.rates.rpr, [(one.language, one.rates.rpr) for one in result.judgements])
        result.write(Path("judged-again"))
    """

    request: EvaluateRequest
    answers: tuple[ItemAnswer, ...]
    judgements: tuple[Judgement, ...]
    """One per language and task, in the order of the answers."""
    sampling: SamplingCounts | None
    """None if the answers already existed."""
    judge: Judge = field(repr=False)
    """Judge that the judgements are by."""

    @property
    def total(self) -> Judgement:
        """Judgement of all answers together."""
        return total(self.judgements)

    @property
    def judged(self) -> str:
        """Name of what was judged: the model, the file of answers, or the log."""
        return str(self.request.model or self.request.answers or self.request.lm_eval)

    @property
    def cut_off(self) -> int:
        """Number of answers that ran out of room."""
        return sum(not answer.finished for answer in self.answers)

    @property
    def mean_tokens(self) -> float | None:
        """Mean length of the answers in tokens; None if it is not known of any."""
        lengths = [answer.tokens for answer in self.answers if answer.tokens is not None]
        return sum(lengths) / len(lengths) if lengths else None

    @property
    def unscored_suites(self) -> dict[str, str]:
        """Suites without accuracy because something is not installed, each with what that is."""
        names = sorted({answer.item.suite for answer in self.answers} & SUITES.keys())
        return {name: missing for name in names if (missing := SUITES[name].missing())}

    def to_json(self) -> Json:
        """Return the content of `result.json`: request, rates of all answers, the same per task, versions."""
        request, judge = self.request, self.judge
        return {
            "model": request.model, "prompts": request.prompts, "suite": request.suite, "source": request.source,
            "answers_from": None if request.model else self.judged, "english": judge.english,
            "samples": request.samples, "engine": request.engine, "limit": request.limit, "seed": request.seed,
            "like": request.like, "decoding": request.decoding,
            **(self.sampling.to_json() if self.sampling else {}), **self.total.to_json(),
            "answers_cut_off": self.cut_off, "mean_tokens": self.mean_tokens,
            "by_task": [judgement.to_json() for judgement in self.judgements],
            "detector_versions": {
                one.language: judge.detector(one.language).version for one in self.judgements if one.rated
            },
            "stack": stack_versions(),
        }  # fmt: skip

    def write(self, output: Path) -> None:
        """Write `answers.jsonl` and `result.json` into a folder.

        Raises:
            UserError: The folder already holds a result.
            ResourceError: The folder cannot be written.
            JudgeError: The detector fails on an answer.
        """
        refuse_used(output)
        self._write(output)

    def _write(self, output: Path) -> None:
        """Write both files."""
        write_output(output, self.to_json(), [self.judge.row(answer) for answer in self.answers])


def evaluate(
    request: EvaluateRequest, progress: ProgressListener = SILENT, output: Path | None = None
) -> EvaluationResult:
    """Judge answers: those of a model to prompts or a suite, or those that already exist.

    Sampled answers are written before they are judged: into `output`, or else into a temporary folder, which is removed
    once they are judged.

    Args:
        request: What to judge and how; checked before a model is loaded.
        progress: Receives a phase while answers are sampled.
        output: Folder for `answers.jsonl` and `result.json`; None writes none.

    Raises:
        UnknownLanguageError: A language has no detector.
        UserError: The request, the prompts, the suite or the saved answers are wrong, or `output` holds a result.
        ModelError: The model does not exist or cannot be loaded.
        JudgeError: A detector or a suite fails on an answer; the message names the answer, and the file in which all
            sampled answers are.
        ResourceError: `output` cannot be written.
    """
    check_request(request)
    if output is not None:
        refuse_used(output)
    judge = Judge(request.english, request.segments)
    sampling: SamplingCounts | None = None
    keeping: AbstractContextManager[None] = nullcontext()
    if request.answers is not None:
        answers = _saved_answers(request.answers, request.languages)
    elif request.lm_eval is not None:
        from tlpo_ray.evaluation.harness import read_log

        answers = read_log(request.lm_eval, request.languages, request.tasks)
    else:
        answers, sampling = _sample_answers(request, progress)
        file = None if output is None else output / ANSWERS
        how = "tlpo evaluate --answers {file} judges them"
        keeping = kept(file, [answer.to_json() for answer in answers], how)
    with keeping:
        judgements = tuple(judge.judge(answers))
        result = EvaluationResult(
            request=request, answers=tuple(answers), judgements=judgements, sampling=sampling, judge=judge
        )
        if output is not None:
            result._write(output)
    return result


def check_request(request: EvaluateRequest) -> None:
    """Check what can be checked of a request without reading anything.

    Raises:
        UnknownLanguageError: A language has no detector.
        UserError: The request contradicts itself or names something that does not exist.
    """
    check_fields(request, SOURCES)
    if request.suite is not None and request.suite not in SUITES:
        raise UserError(f"--suite {request.suite}: expected one of {', '.join(SUITES)}")
    if request.prompts is not None and len(request.languages) != 1:
        raise UserError("--prompts needs one --language: the language that the answers should be in")
    DecodingConfig.parse(request.decoding)
    if request.segments is not None:
        detectors.segmented("en", request.english, request.segments)
    for language in request.languages:
        detectors.language(language, request.english)


def check_fields(
    request: EvaluateRequest, sources: Sequence[str], shown: Callable[[str], str] = lambda field_name: field_name
) -> None:
    """Check that a request has one source, a model if its source needs one, and no field without effect.

    Args:
        request: The request.
        sources: Names of the fields that say where answers come from.
        shown: Returns what error messages call a field; by default its name.

    Raises:
        UserError: A field is missing, or does not go with another one.
    """
    given = [name for name in sources if getattr(request, name) is not None]
    if len(given) != 1:
        found = " and ".join(map(shown, given)) or "none of them"
        raise UserError(f"expected one of {', '.join(map(shown, sources))}; found {found}")
    (source,) = given
    if (source in WITH_MODEL) != (request.model is not None):
        wrong = ("needs a", "") if source in WITH_MODEL else ("takes no", ": its answers already exist")
        raise UserError(f"{shown(source)} {wrong[0]} {shown('model')}{wrong[1]}")
    for each in fields(request):
        allowed = GOES_WITH.get(each.name, sources)
        if source not in allowed and getattr(request, each.name) != each.default:
            possible = ", ".join(shown(name) for name in allowed if name in sources)
            raise UserError(f"{shown(each.name)} does not go with {shown(source)}: it is for {possible}")


def _saved_answers(path: Path, languages: Sequence[str]) -> list[ItemAnswer]:
    """Return the saved answers in the given languages, or all of them if none is given."""
    default = languages[0] if len(languages) == 1 else None
    answers = read_answers(path, default)
    if languages:
        answers = [
            replace(answer, item=replace(answer.item, language=language))
            for answer in answers
            if (language := detectors.selected(answer.item.language, languages)) is not None
        ]
    if not answers:
        raise UserError(f"--answers {path}: no answer is in {', '.join(languages)}")
    return answers


def _sample_answers(request: EvaluateRequest, progress: ProgressListener) -> tuple[list[ItemAnswer], SamplingCounts]:
    """Return the model's answers to the suite or the prompts, and counts of the prompts."""
    suite = SUITES[request.suite] if request.suite is not None else None
    assert request.model is not None, "the request was checked"
    examples: Sequence[tuple[str, Prompt]] = ()
    if suite is None:
        selected = _select_prompts(request)
        items: Sequence[Item] = prompt_items(selected)
        skipped, examples = selected.skipped, selected.examples
        for line in selected.note_lines():
            progress.note(line)
    else:
        items, skipped = _suite_items(request, suite)
    default_temperature, default_length = (
        (TEMPERATURE, MAX_NEW_TOKENS) if suite is None else (suite.temperature, suite.max_new_tokens)
    )
    sampling = Sampling(
        samples=request.samples, seed=request.seed, engine=checked_engine(request.engine),
        temperature=default_temperature if request.temperature is None else request.temperature,
        max_new_tokens=request.max_new_tokens or default_length, decoding=DecodingConfig.parse(request.decoding),
        detector=DetectorConfig(english=request.english, segments=_segments(request)),
    )  # fmt: skip
    prompts = prompts_of(items)
    model = model_for_sampling(request.model, sampling.max_new_tokens, request.like)
    check_conversations(model, examples, skip=request.skip_bad)
    sampled = generate(request.model, prompts, sampling, request.like, progress)
    answered = {completion.prompt_index for completion in sampled.completions}
    unanswered = [prompt for prompt in prompts if prompt.index not in answered]
    reasons = skip_reasons(model, unanswered)
    return item_answers(items, sampled.completions), SamplingCounts(
        temperature=sampling.temperature, max_new_tokens=sampling.max_new_tokens, prompts_answered=len(answered),
        prompts_too_long=reasons.pop(TOO_LONG, 0), prompts_skipped={**skipped, **reasons},
        cost=sampled.cost,
    )  # fmt: skip


def prompts_of(items: Sequence[Item]) -> list[Prompt]:
    """Return the prompts of items, numbered in their order."""
    return [
        Prompt(index=number, id=item.id, language=item.language, text=item.prompt, conversation=item.conversation)
        for number, item in enumerate(items)
    ]


def item_answers(items: Sequence[Item], completions: Sequence[Completion]) -> list[ItemAnswer]:
    """Return answers together with the items that they answer."""
    return [
        ItemAnswer(
            item=items[completion.prompt_index], sample=completion.sample, answer=completion.text,
            finished=completion.finished, tokens=len(completion.token_ids), begins_in=completion.begins_in,
        )
        for completion in completions
    ]  # fmt: skip


def _segments(request: EvaluateRequest) -> SegmentsConfig | None:
    return None if request.segments is None else SegmentsConfig(**request.segments)


def _suite_items(request: EvaluateRequest, suite: Suite) -> tuple[Sequence[Item], Mapping[str, int]]:
    """Return the suite's prompts in the requested languages, and how many of its records were left out."""
    languages = request.languages or tuple(language for language in PAPER_LANGUAGES if language in suite.languages)
    selected = select_items(
        suite, request.source, languages, limit=request.limit, seed=request.seed, skip_bad=request.skip_bad
    )
    return selected.items, selected.dropped


def _select_prompts(request: EvaluateRequest) -> PromptSet:
    assert request.prompts is not None, "the request was checked"
    (language,) = request.languages
    return select_prompts(request.prompts, language, request.limit, request.seed, skip_bad=request.skip_bad)


def prompt_items(selected: PromptSet) -> list[Item]:
    """Return the user's own prompts as items of no suite."""
    return [
        Item(
            suite=PROMPTS,
            task=PROMPTS,
            source="",
            id=prompt.id,
            language=prompt.language,
            prompt=prompt.text,
            conversation=prompt.conversation,
        )
        for prompt in selected.prompts
    ]
