"""The `tlpo` command. Only typer is imported here, so that `tlpo --help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tlpo_ray import __version__
from tlpo_ray.cli.cluster import cluster
from tlpo_ray.cli.data import data
from tlpo_ray.cli.options import Overrides
from tlpo_ray.errors import StoppedError

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
STACK = "distributed"
GPU_DRIVER = Path("/dev/nvidiactl")
USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
SIGNALLED = 128
"""Exit codes: the request was wrong; the run failed; Ctrl-C."""

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
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count unreadable prompt lines and go on.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run that was stopped or died: go on where it was.")
    ] = None,
) -> None:
    """Train a model: prompts in, a run folder with the repaired model out."""
    from tlpo_ray.commands.train import resume_command, train_command
    from tlpo_ray.errors import UserError

    if resume is not None:
        from tlpo_ray.commands.quickstart import resumed_quickstart_command
        from tlpo_ray.run.folder import is_quickstart

        if skip_bad:
            raise UserError("--skip-bad is for a new run: one that goes on treats its prompts as it did before")
        go_on = resumed_quickstart_command if is_quickstart(resume) else resume_command
        go_on(resume, [*([config] if config else []), *(overrides or [])])
    elif config is None:
        raise UserError("tlpo train needs a YAML file or a preset, or --resume RUN")
    else:
        extra = ["data.skip_bad=true"] if skip_bad else []
        train_command(config, [*(overrides or []), *extra])


@app.command()
def baseline(
    method: Annotated[str, typer.Argument(help="sft, dpo, orpo, grpo, the same with -toy, or a YAML file.")],
    like: Annotated[str, typer.Argument(help="Preset or YAML file of the TLPO run whose model and data are used.")],
    overrides: Overrides = None,
) -> None:
    """Train with a sequence-level method through TRL, on the data and model of a TLPO run, for comparison."""
    from tlpo_ray.commands.baseline import baseline_command

    baseline_command(method, like, overrides or [])


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(help="comparison, robustness, advantage, candidates, variants, paper, smoke, or a YAML file."),
    ] = "comparison",
    overrides: Overrides = None,
    folder: Annotated[Path | None, typer.Option(help="Where results go; default experiments/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once, a CPU each; default 2.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds instead of the plan's; repeatable.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster; none starts one here.")] = None,
) -> None:
    """Run a declared grid of trials, what is missing of it, and write its tables, figures and report."""
    from tlpo_ray.commands.experiment import experiment_command

    experiment_command(name, overrides or [], folder, jobs, seed, address)


@app.command()
def quickstart(
    overrides: Overrides = None,
    stack: Annotated[
        str, typer.Option(help="distributed: Ray, vLLM, DeepSpeed; local: one process, transformers and torch.")
    ] = STACK,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train the toy model anew instead of using the cache.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of world, toy model and run.")] = 0,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a quickstart that was stopped or died: go on where it was.")
    ] = None,
) -> None:
    """Make a small model that mixes languages, repair it, and show what changed. Needs no GPU and no network."""
    from tlpo_ray.commands.quickstart import quickstart_command, resumed_quickstart_command
    from tlpo_ray.errors import UserError

    if resume is not None:
        if (stack, fresh, seed) != (STACK, False, 0):
            raise UserError("--stack, --fresh and --seed are for a new quickstart: one that goes on has its own")
        resumed_quickstart_command(resume, overrides or [])
    else:
        quickstart_command(stack=stack, fresh=fresh, seed=seed, overrides=overrides or [])


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or an experiment.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the report; default FOLDER/report.")] = None,
) -> None:
    """One self-contained page of a run or an experiment, with figures as PNG and SVG and tables in Markdown."""
    from tlpo_ray.commands.report import report_command

    report_command(folder, output)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    output: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter of a run with learner.lora, not the merged model.")
    ] = False,
    push: Annotated[str | None, typer.Option(metavar="NAME", help="Put it on the hub under this name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it there.")] = False,
) -> None:
    """The model that a run has made, for other programs: a folder, or on the hub."""
    from tlpo_ray.commands.export import export_command

    export_command(run, output, adapter, push, public)


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Argument(help="Folder or hub name of a model that is to answer.")] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Prompt file, folder or hub dataset.", rich_help_panel="What to judge")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="lcb-monolingual, lcb-crosslingual, mif, mmmlu or gsm8k-cross.", rich_help_panel="What to judge"
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Where a suite's records lie, if not on the hub.", rich_help_panel="What to judge"),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Answers kept by --output, to be judged again.", rich_help_panel="What to judge")
    ] = None,
    lm_eval: Annotated[
        Path | None, typer.Option(help="Sample logs of `lm-eval --log_samples`.", rich_help_panel="What to judge")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="With --lm-eval: tasks to read, separated by commas; default those that the paper judges.",
            rich_help_panel="What to judge",
        ),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(help="lm-eval tasks, separated by commas; paper: the paper's.", rich_help_panel="What to judge"),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Language that answers should be in; of a suite several, as ko,ja.", rich_help_panel="How to judge"
        ),
    ] = None,
    english: Annotated[
        str,
        typer.Option(help="neutral: English is never confusion; confusion: always.", rich_help_panel="How to judge"),
    ] = "neutral",
    samples: Annotated[int, typer.Option(min=1, help="Answers per prompt.", rich_help_panel="Sampling")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Default: the suite's, else 0.6.", rich_help_panel="Sampling")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Default: the suite's, else 512.", rich_help_panel="Sampling")
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm or transformers.", rich_help_panel="Sampling")] = "vllm",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most prompts (of a suite: per language).", rich_help_panel="Sampling")
    ] = None,
    seed: Annotated[int, typer.Option(rich_help_panel="Sampling")] = 0,
    like: Annotated[
        str | None,
        typer.Option(help="Preset or file that says how prompts are put to the model.", rich_help_panel="Sampling"),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count bad records and go on.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for answers.jsonl and result.json.")] = None,
) -> None:
    """Response, word and line pass rates (RPR, WPR) of answers, and what they know."""
    from tlpo_ray.commands.evaluate import Request, evaluate_command

    evaluate_command(
        Request(
            model=model, prompts=prompts, suite=suite, source=source, answers=answers, lm_eval=lm_eval,
            accuracy=accuracy, tasks=_listed(task), languages=_listed(language), english=english,
            samples=samples, temperature=temperature, max_new_tokens=max_new_tokens, engine=engine, limit=limit,
            seed=seed, skip_bad=skip_bad, like=like, output=output,
        )
    )  # fmt: skip


def _listed(names: str | None) -> tuple[str, ...]:
    """`ko, ja` as ("ko", "ja")."""
    return tuple(name.strip() for name in names.split(",") if name.strip()) if names else ()


InputFormat = Annotated[
    str,
    typer.Option(
        help="auto, text, jsonl or csv. auto goes by the ending (.txt .md .jsonl .ndjson .json .csv .tsv); anything "
        "else, and standard input, is JSONL with --field and plain text without.",
        rich_help_panel="Input",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Setting of the detector, e.g. hanja_in_brackets=exempt or, of terms, file=forbidden.txt; repeatable.",
        rich_help_panel="Rules",
    ),
]


@app.command()
def detect(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files, folders, also gzip; none or - reads standard input.")
    ] = None,
    input_format: InputFormat = "auto",
    field: Annotated[
        str | None,
        typer.Option(help="Field of the text. Default: text, answer and their like.", rich_help_panel="Input"),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Count bad records and go on.", rich_help_panel="Input")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Language that all texts should be in, e.g. ko.", rich_help_panel="Rules")
    ] = None,
    language_field: Annotated[
        str | None, typer.Option(help="Field of the language. Default: language or lang.", rich_help_panel="Rules")
    ] = None,
    english: Annotated[
        str, typer.Option(help="Of English: neutral is never confusion, confusion always.", rich_help_panel="Rules")
    ] = "neutral",
    detector: Annotated[
        str, typer.Option(help="language, terms or another that is installed.", rich_help_panel="Rules")
    ] = "language",
    settings: Settings = None,
    output: Annotated[
        str, typer.Option(help="marked text, a table of rates by language, or jsonl.", rich_help_panel="Output")
    ] = "marked",
    fail_above: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Exit 1 if a greater share (0 to 1) is confused.", rich_help_panel="Output"),
    ] = None,
) -> None:
    """Find words of a wrong language: in lines of plain text, records of JSONL or CSV.

    marked: FILE:LINE:COLUMN and the line; of a record FILE:RECORD:LINE:COLUMN.

    jsonl, one object a span: file, record, line, column, index, end, text,
    script, tier, language. line and column count from 1: in the file for plain
    text, in the text of the record for JSONL and CSV. record is the line of a
    text or JSONL file, the row below the header of a CSV file. index and end
    (one past the last) are code points of the line or record, from 0.
    """
    from tlpo_ray.commands.detect import Request, detect_command

    request = Request(
        files=files or [], input_format=input_format, field=field, skip_bad=skip_bad, language=language,
        language_field=language_field, english=english, detector=detector, settings=settings or [], output=output,
        fail_above=fail_above,
    )  # fmt: skip
    if not detect_command(request):
        raise typer.Exit(FAILURE)


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="4b, 8b, 14b or 32b.")] = "8b",
    gpus: Annotated[int, typer.Option(help="How many in all.")] = 8,
    gpu: Annotated[str, typer.Option(help="h100, h200 or a100.")] = "h100",
    hours: Annotated[float | None, typer.Option(min=0, help="Also say how far so many hours get.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Of an epoch.")] = 52_000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Of a whole answer, mean.")] = 300,
    confused: Annotated[float, typer.Option(min=0, max=1, help="Share of answers, over the epoch.")] = 0.05,
) -> None:
    """How to divide GPUs between rollouts and learner, and what an epoch takes, with what is assumed."""
    from tlpo_ray.commands.plan import plan_command
    from tlpo_ray.run.capacity import Job

    plan_command(model, gpus, gpu, hours, Job(prompts=prompts, answer_tokens=answer_tokens, confused=confused))


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


def _version(asked: bool) -> None:
    if asked:
        print(f"tlpo-ray {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not GPU_DRIVER.exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, which transformers imports, warns of it


def main() -> None:
    """Run a command. Errors we raise on purpose become one line and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except StoppedError as error:
        print(f"tlpo: {error}", file=sys.stderr)
        sys.exit(SIGNALLED + error.signal)
    except Exception as error:
        line = _one_line(error)
        if line is None:
            raise
        print(f"tlpo: {line[0]}", file=sys.stderr)
        sys.exit(line[1])


def _one_line(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an error meant for the user; None for a bug of ours, which keeps its traceback."""
    from detectors import DetectorError
    from tlpo_ray.errors import TlpoError, UserError

    if isinstance(error, UserError | DetectorError):
        return str(error), USER_ERROR
    if isinstance(error, TlpoError):
        return str(error), FAILURE
    return None
