"""`tlpo evaluate`: answers of a model, new or kept, and how many of them stay in their language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rich.box import ROUNDED
from rich.table import Table

from tlpo_ray.commands.asking import ask, prompts_to_ask
from tlpo_ray.commands.detect import english_setting
from tlpo_ray.commands.display import console, rate, step
from tlpo_ray.config.run import English
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.evaluation.judge import Answered, Judge, Judgement, read_answers, total
from tlpo_ray.evaluation.sampling import Sampling, asked_model, engine_named
from tlpo_ray.evaluation.suites import SUITES, Item, Suite, read_items
from tlpo_ray.evaluation.suites.suite import PAPER_LANGUAGES
from tlpo_ray.files import write_json, write_lines
from tlpo_ray.flow.records import Prompt

RESULT, ANSWERS = "result.json", "answers.jsonl"
PROMPTS = "prompts"
"""Suite and task of prompts that belong to none."""
TEMPERATURE, MAX_NEW_TOKENS = 0.6, 512
"""Where neither the user nor a suite says otherwise."""
LM_EVAL_TOKENS = 2048
"""Room for an answer to a task of lm-eval."""
SAMPLED = ("--prompts", "--suite")
MODELLED = (*SAMPLED, "--accuracy")
GOES_WITH = {
    "source": ("--suite", "--accuracy"), "tasks": ("--lm-eval",), "samples": SAMPLED, "temperature": SAMPLED,
    "max_new_tokens": MODELLED, "engine": MODELLED, "limit": MODELLED, "seed": MODELLED, "like": MODELLED,
    "skip_bad": MODELLED, "english": (*SAMPLED, "--answers", "--lm-eval"),
}  # fmt: skip
"""Options that do nothing with the others, by field."""
Result = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asked for; exactly one of `prompts`, `suite`, `answers`, `lm_eval` and `accuracy` is given."""

    model: str | None = None
    prompts: str | None = None
    suite: str | None = None
    source: str | None = None
    answers: Path | None = None
    lm_eval: Path | None = None
    accuracy: str | None = None
    tasks: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    english: str = "neutral"
    samples: int = 1
    temperature: float | None = None
    max_new_tokens: int | None = None
    engine: str = "vllm"
    limit: int | None = None
    seed: int = 0
    skip_bad: bool = False
    like: str | None = None
    output: Path | None = None


def evaluate_command(request: Request) -> None:
    """Print the rates of answers, sampled now or kept before, and keep all in `output` when given.

    Raises:
        UnknownLanguageError: a language has no detector.
        UserError: an option, the prompts or the model is wrong, or `output` holds a result already.
    """
    english = _checked(request)
    if request.accuracy is not None:
        return _accuracy(request)
    if request.answers is not None:
        answers, counts = read_answers(request.answers, _only(request.languages)), dict[str, object]()
        answers = [one for one in answers if not request.languages or one.item.language in request.languages]
        if not answers:
            raise UserError(f"--answers {request.answers}: none is in {', '.join(request.languages)}")
    elif request.lm_eval is not None:
        from tlpo_ray.evaluation.harness import read_log

        answers, counts = read_log(request.lm_eval, request.languages, request.tasks), {}
    else:
        answers, counts = _sampled(request, english)
    _show(request, english, answers, counts)


def _checked(request: Request) -> English:
    """The English setting; a request that cannot be met is refused before a model is loaded."""
    english = english_setting(request.english)
    sources = {
        "--prompts": request.prompts, "--suite": request.suite, "--answers": request.answers,
        "--lm-eval": request.lm_eval, "--accuracy": request.accuracy,
    }  # fmt: skip
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise UserError(f"expected one of {', '.join(sources)}; found {' and '.join(given) or 'none of them'}")
    samples = given[0] in MODELLED
    if samples != (request.model is not None):
        wrong = "needs a MODEL" if samples else "takes no MODEL: its answers exist already"
        raise UserError(f"{given[0]} {wrong}")
    for field in fields(request):
        allowed = GOES_WITH.get(field.name)
        if allowed is not None and given[0] not in allowed and getattr(request, field.name) != field.default:
            option = "task" if field.name == "tasks" else field.name.replace("_", "-")
            raise UserError(f"--{option} does not go with {given[0]}: it is for {', '.join(allowed)}")
    if request.suite is not None and request.suite not in SUITES:
        raise UserError(f"--suite {request.suite}: expected one of {', '.join(SUITES)}")
    if request.prompts is not None and len(request.languages) != 1:
        raise UserError("--prompts needs one --language: that the answers should be in")
    for language in request.languages:
        Judge(english).profile(language)
    if request.output is not None:
        _refuse_used(request.output)
    return english


def _refuse_used(output: Path) -> None:
    for name in (RESULT, ANSWERS):
        if (output / name).exists():
            raise UserError(f"--output {output} holds a {name} already: choose another folder, or move it away")


def _only(languages: Sequence[str]) -> str | None:
    return languages[0] if len(languages) == 1 else None


def _sampled(request: Request, english: English) -> tuple[list[Answered], Result]:
    """Answers of the model to the suite or the prompts, and counts of what was asked."""
    suite = SUITES[request.suite] if request.suite is not None else None
    items, skipped = _suite_items(request, suite) if suite is not None else _prompt_items(request)
    temperature = (
        request.temperature if request.temperature is not None else suite.temperature if suite else TEMPERATURE
    )
    longest = request.max_new_tokens or (suite.max_new_tokens if suite else MAX_NEW_TOKENS)
    sampling = Sampling(
        samples=request.samples, temperature=temperature, max_new_tokens=longest, engine=engine_named(request.engine),
        seed=request.seed,
    )  # fmt: skip
    assert request.model is not None
    prompts = [
        Prompt(index=number, id=item.id, language=item.language, text=item.prompt) for number, item in enumerate(items)
    ]
    found = ask(request.model, prompts, sampling, request.like)
    answers = [
        Answered(
            item=items[one.prompt_index], sample=one.sample, answer=one.text, finished=one.finished,
            tokens=len(one.token_ids),
        )
        for one in found
    ]  # fmt: skip
    answered = len({one.prompt_index for one in found})
    settings: Result = {
        "temperature": temperature, "max_new_tokens": longest, "prompts_answered": answered,
        "prompts_too_long": len(items) - answered, "prompts_skipped": skipped,
    }  # fmt: skip
    return answers, settings


def _suite_items(request: Request, suite: Suite) -> tuple[list[Item], dict[str, int]]:
    """The suite's prompts in the languages asked for; with a limit, as many of each, spread over its records."""
    languages = request.languages or tuple(one for one in PAPER_LANGUAGES if one in suite.languages)
    found = read_items(suite, request.source, languages, skip_bad=request.skip_bad)
    items: list[Item] = []
    for language in languages:
        mine = [item for item in found.items if item.language == language]
        stride = max(1, len(mine) // request.limit) if request.limit else 1
        items += mine[::stride][: request.limit]
    return items, dict(found.dropped)


def _prompt_items(request: Request) -> tuple[list[Item], dict[str, int]]:
    assert request.prompts is not None
    (language,) = request.languages
    chosen = prompts_to_ask(request.prompts, language, request.limit, request.seed, skip_bad=request.skip_bad)
    items = [
        Item(suite=PROMPTS, task=PROMPTS, source="", id=prompt.id, language=prompt.language, prompt=prompt.text)
        for prompt in chosen.prompts
    ]
    return items, dict(chosen.skipped)


def _show(request: Request, english: English, answers: Sequence[Answered], counts: Result) -> None:
    """The table, and everything kept in the output folder."""
    judge = Judge(english)
    judged = judge.judged(answers)
    asked = str(request.model or request.answers or request.lm_eval)
    console.print(_table(judged, f"{asked} · English: {english}"))
    console.print(f"[dim]{_aside(answers, total(judged), counts)}[/dim]", soft_wrap=True)
    for name in sorted({one.item.suite for one in answers} & SUITES.keys()):
        if SUITES[name].missing():
            console.print(f"accuracy of {name} is not known: {SUITES[name].missing()}", soft_wrap=True, markup=False)
    if request.output is not None:
        lengths = [one.tokens for one in answers if one.tokens is not None]
        result: Result = {
            "model": request.model, "prompts": request.prompts, "suite": request.suite, "source": request.source,
            "answers_from": None if request.model else asked, "english": english, "samples": request.samples,
            "engine": request.engine, "limit": request.limit, "seed": request.seed, "like": request.like,
            **counts, **total(judged).as_json(),
            "answers_cut_off": sum(not one.finished for one in answers),
            "mean_tokens": sum(lengths) / len(lengths) if lengths else None,
            "by_task": [one.as_json() for one in judged],
            "detector_versions": {one.language: judge.profile(one.language).version for one in judged},
            "stack": stack_versions(),
        }  # fmt: skip
        _keep(request.output, result, [judge.row(one) for one in answers])


def _table(judged: Sequence[Judgement], title: str) -> Table:
    """A row a language and task, then one for all of them."""
    table = Table(title=title, title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("language", "task"):
        table.add_column(heading)
    for heading in ("answers", "RPR", "95 %", "WPR", "lines"):
        table.add_column(heading, justify="right")
    rows = [*judged, *([total(judged)] if len(judged) > 1 else [])]
    scored = any(one.accuracy is not None for one in rows)
    if scored:
        table.add_column("accuracy", justify="right")
    for number, one in enumerate(rows):
        if number == len(judged):
            table.add_section()
        low, high = one.rates.rpr_interval or (None, None)
        cells = [
            one.language, one.task, f"{one.rates.answers:,}", rate(one.rates.rpr), f"{rate(low)}–{rate(high)}",
            rate(one.rates.wpr), rate(one.rates.line_pass_rate),
        ]  # fmt: skip
        table.add_row(*cells, *([rate(one.accuracy)] if scored else []))
    return table


def _aside(answers: Sequence[Answered], whole: Judgement, counts: Result) -> str:
    """What the rates do not say, in one line."""
    lengths = [one.tokens for one in answers if one.tokens is not None]
    cut = sum(not one.finished for one in answers)
    said = [
        f"{whole.rates.failed:,} confused",
        f"{whole.rates.empty:,} without a word of the language (not in the RPR)",
    ]
    if lengths:
        said += [f"{sum(lengths) / len(lengths):.1f} tokens on average", f"{cut:,} cut off"]
    if counts.get("prompts_too_long"):
        said.append(f"{counts['prompts_too_long']} prompts too long")
    skipped = counts.get("prompts_skipped")
    if isinstance(skipped, dict):
        said += [f"{number:,} left out: {reason}" for reason, number in skipped.items()]
    return " · ".join(said)


def _keep(output: Path, result: Result, rows: Sequence[Result]) -> None:
    """The answers first, so that a folder with a result is complete."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_lines(output / ANSWERS, rows)
        write_json(output / RESULT, result)
    except OSError as error:
        raise ResourceError(f"cannot write to {output}: {error.strerror or error}") from error
    console.print(f"answers: {output / ANSWERS}\nresult:  {output / RESULT}", soft_wrap=True)


def _accuracy(request: Request) -> None:
    """lm-eval's scores of the tasks asked for; `paper` stands for the paper's. Its own logs lie beside our result."""
    from tlpo_ray.evaluation.harness import named_tasks, prepared, run_tasks, scores

    assert request.accuracy is not None and request.model is not None
    tasks = named_tasks(request.accuracy, request.languages or PAPER_LANGUAGES)
    model = asked_model(request.model, request.max_new_tokens or LM_EVAL_TOKENS, request.like)
    with step(f"lm-eval: {', '.join(tasks)}"):
        manager = prepared(tasks, engine_named(request.engine), request.source, request.skip_bad)
        results = run_tasks(
            manager, tasks, model, engine_named(request.engine), max_new_tokens=request.max_new_tokens,
            limit=request.limit, seed=request.seed, logs=request.output,
        )  # fmt: skip
    found = scores(results)
    console.print(_scores_table(f"{request.model} · lm-eval", found))
    if request.output is not None:
        kept: Result = {
            "model": request.model, "source": request.source, "engine": request.engine, "accuracy": found,
            "limit": request.limit, "seed": request.seed, "stack": stack_versions(),
        }  # fmt: skip
        write_json(request.output / RESULT, kept)
        console.print(
            f"result:  {request.output / RESULT}, and lm-eval's results and samples beside it", soft_wrap=True
        )


def _scores_table(title: str, found: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("task", "metric"):
        table.add_column(heading)
    for heading in ("score", "±"):
        table.add_column(heading, justify="right")
    for task, metrics in found.items():
        for name, value in metrics.items():
            metric, _, filtered = name.partition(",")
            if not metric.endswith("_stderr"):
                table.add_row(task, name, rate(value), rate(metrics.get(f"{metric}_stderr,{filtered}")))
    return table
