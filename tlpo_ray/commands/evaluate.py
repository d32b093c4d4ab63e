"""`tlpo evaluate` on the terminal: shows the rates, or lm-eval's scores, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.box import ROUNDED
from rich.table import Table

import detectors
from tlpo_ray.commands.display import TerminalProgress, console, interval, rate
from tlpo_ray.evaluation.evaluate import (
    SOURCES,
    EvaluateRequest,
    EvaluationResult,
    check_fields,
    evaluate,
)
from tlpo_ray.evaluation.judge import ANSWERS
from tlpo_ray.evaluation.output import RESULT, refuse_used
from tlpo_ray.stopping import stop_on_signal

ARGUMENTS = {"model": "MODEL", "tasks": "--task"}
"""What the command line calls the fields of a request whose options are not named like them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(EvaluateRequest):
    """Options of the command. Exactly one of the sources of answers, `accuracy` and `perplexity` must be given."""

    accuracy: str | None = None
    """Names of lm-eval's tasks, separated by commas, or `paper`: measure accuracy instead of pass rates."""
    perplexity: str | None = None
    """Texts that people wrote, on which the perplexity of the model is measured instead of pass rates."""
    output: Path | None = None
    """Folder for `answers.jsonl` and `result.json`."""


def evaluate_command(request: Request) -> None:
    """Print the rates of answers, or lm-eval's scores, and save them in `output` if it is given.

    Raises:
        UnknownLanguageError: A language has no detector.
        UserError: An option, the prompts or the model is wrong, or `output` already holds a result.
        JudgeError: An answer cannot be judged; the message says where the sampled answers are.
    """
    check_fields(request, (*SOURCES, "accuracy", "perplexity"), _option)
    if request.output is not None:
        refuse_used(request.output)
    with stop_on_signal(partial(describe_stop, "evaluation", request.output)):
        if request.accuracy is not None:
            _show_accuracy(request, request.accuracy)
        elif request.perplexity is not None:
            _show_perplexity(request, request.perplexity)
        else:
            _show_rates(request)


def describe_stop(what: str, output: Path | None, signal: str) -> str:
    """Return the line with which a signal ends a command that samples answers: what is kept, and how to continue.

    Args:
        what: Noun for what the command does.
        output: Folder to which sampled answers are written before they are judged, if any.
        signal: Name of the signal.
    """
    file = None if output is None else output / ANSWERS
    if file is not None and file.exists():
        return f"stopped by {signal}; the sampled answers are in {file}: tlpo evaluate --answers {file} judges them"
    return f"stopped by {signal}; nothing of this {what} is kept"


def _show_rates(request: Request) -> None:
    """Print the rates of answers; both are saved in `output` if it is given."""
    result = evaluate(request, TerminalProgress(), request.output)
    console.print(_rates_table(result))
    console.print(f"[dim]{_remarks(result)}[/dim]", soft_wrap=True)
    for suite, missing in result.unscored_suites.items():
        console.print(f"accuracy of {suite} is unknown: {missing}", soft_wrap=True, markup=False)
    if request.output is not None:
        console.print(f"answers: {request.output / ANSWERS}\nresult:  {request.output / RESULT}", soft_wrap=True)


def _option(field_name: str) -> str:
    """Return what the command line calls a field of the request."""
    return ARGUMENTS.get(field_name, f"--{field_name.replace('_', '-')}")


def _rates_table(result: EvaluationResult) -> Table:
    """Return one row per language and task, then one for all of them together."""
    table = Table(
        title=f"{result.judged} · English: {result.judge.english}",
        title_justify="left",
        title_style="bold",
        box=ROUNDED,
    )
    for heading in ("language", "task"):
        table.add_column(heading)
    judgements = result.judgements
    rows = [*judgements, *([result.total] if len(judgements) > 1 else [])]
    rated = any(row.rated for row in rows)
    scores = list(dict.fromkeys(row.score_name for row in rows if row.accuracy is not None))
    for heading in ("answers", *(("RPR", "95 %", "WPR", "lines") if rated else ()), *scores):
        table.add_column(heading, justify="right")
    if not rated:
        table.add_column("95 %", justify="right")
    for number, row in enumerate(rows):
        if number == len(judgements):
            table.add_section()
        cells = [*_rate_cells(row.rates, shown=row.rated)] if rated else [f"{row.rates.answers:,}"]
        cells += [rate(row.accuracy if row.score_name == name else None) for name in scores]
        cells += [] if rated else [interval(row.accuracy_interval)]
        table.add_row(row.language, row.task, *cells)
        for part, rates in row.parts.items() if row.rated else ():
            table.add_row("", f"  {part.replace('_', ' ')}", *_rate_cells(rates), style="dim")
    return table


def _rate_cells(rates: detectors.Rates, *, shown: bool = True) -> list[str]:
    """Return number of answers, RPR, its interval, WPR and line pass rate, or only the number if they are not shown."""
    if not shown:
        return [f"{rates.answers:,}", rate(None), rate(None), rate(None), rate(None)]
    return [
        f"{rates.answers:,}",
        rate(rates.rpr),
        interval(rates.rpr_interval),
        rate(rates.wpr),
        rate(rates.line_pass_rate),
    ]


def _remarks(result: EvaluationResult) -> str:
    """Return what the rates do not show, in one line: answers without words, lengths, prompts left out."""
    rates = result.total.rates
    remarks = [
        "wanted: the foreign text that was asked for is in the answer; no RPR, which would count it as confusion"
    ]
    if result.total.rated:
        remarks = [
            f"{rates.failed:,} confused",
            f"{rates.empty:,} without a word of the language (not in the RPR)",
        ]
    if result.mean_tokens is not None:
        remarks += [f"{result.mean_tokens:.1f} tokens on average", f"{result.cut_off:,} cut off"]
    if result.sampling is not None:
        if (method := result.request.decoding) != "plain":
            cost = result.sampling.cost
            remarks.append(
                f"decoding by {method}: {cost.interventions_per_1000_tokens:.1f} interventions per 1,000 tokens, "
                f"{cost.ms_per_token:.1f} ms per token"
            )
        if result.sampling.prompts_too_long:
            remarks.append(f"{result.sampling.prompts_too_long} prompts too long")
        remarks += [f"{number:,} left out: {reason}" for reason, number in result.sampling.prompts_skipped.items()]
    return " · ".join(remarks)


def _show_accuracy(request: Request, tasks: str) -> None:
    """Print lm-eval's scores, and save them next to lm-eval's own logs if there is an output folder."""
    from tlpo_ray.evaluation.accuracy import AccuracyRequest, measure_accuracy

    assert request.model is not None, "the options were checked"
    accuracy = AccuracyRequest(
        model=request.model, tasks=tuple(tasks.split(",")), languages=request.languages, source=request.source,
        max_new_tokens=request.max_new_tokens, engine=request.engine, limit=request.limit, seed=request.seed,
        skip_bad=request.skip_bad, like=request.like, logs=request.output,
    )  # fmt: skip
    result = measure_accuracy(accuracy, TerminalProgress())
    console.print(_scores_table(f"{request.model} · lm-eval", result.scores))
    if request.output is not None:
        result.write(request.output)
        console.print(f"result:  {request.output / RESULT}, next to lm-eval's own results and samples", soft_wrap=True)


def _show_perplexity(request: Request, texts: str) -> None:
    """Print the perplexity of each language, and save them if there is an output folder."""
    from tlpo_ray.evaluation.perplexity import PerplexityRequest, measure_perplexity

    assert request.model is not None, "the options were checked"
    result = measure_perplexity(
        PerplexityRequest(
            model=request.model, texts=texts, languages=request.languages, limit=request.limit, seed=request.seed,
            skip_bad=request.skip_bad,
        ),
        TerminalProgress(),
    )  # fmt: skip
    table = Table(title=f"{request.model} · perplexity", title_justify="left", title_style="bold", box=ROUNDED)
    table.add_column("language")
    for heading in ("texts", "tokens", "perplexity"):
        table.add_column(heading, justify="right")
    for each in result.languages:
        table.add_row(each.language, f"{each.texts:,}", f"{each.tokens:,}", f"{each.perplexity:.3f}")
    if len(result.languages) > 1:
        table.add_section()
        table.add_row("all", "", "", f"{result.perplexity:.3f}")
    console.print(table)
    if request.output is not None:
        result.write(request.output)
        console.print(f"result:  {request.output / RESULT}", soft_wrap=True)


def _scores_table(title: str, scores: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("task", "metric"):
        table.add_column(heading)
    for heading in ("score", "±"):
        table.add_column(heading, justify="right")
    for task, metrics in scores.items():
        for name, value in metrics.items():
            metric, _, filter_name = name.partition(",")
            if not metric.endswith("_stderr"):
                table.add_row(task, name, rate(value), rate(metrics.get(f"{metric}_stderr,{filter_name}")))
    return table
