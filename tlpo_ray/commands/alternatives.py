"""`tlpo alternatives` on the terminal: what each decoding method reaches on a model, and at which cost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.box import ROUNDED
from rich.table import Table

from tlpo_ray.commands.display import TerminalProgress, console, interval, rate
from tlpo_ray.commands.evaluate import describe_stop
from tlpo_ray.config.decoding import ABOUT
from tlpo_ray.evaluation.alternatives import AlternativesRequest, AlternativesResult, compare_alternatives
from tlpo_ray.evaluation.judge import ANSWERS
from tlpo_ray.evaluation.output import RESULT
from tlpo_ray.stopping import stop_on_signal

LEGEND = (
    "changed: how often a method changed which token is the most probable, or took one back\n"
    "wanted: answers with the foreign text that was asked for · × plain: time per token relative to plain sampling"
)
WIDE = 150
"""Columns of a terminal from which the table also says what each method does."""


def alternatives_command(request: AlternativesRequest, output: Path | None) -> None:
    """Print one row per method and what follows from them, and save both in `output` if it is given.

    Raises:
        UserError: An option, the prompts or the model is wrong, or `output` already holds a result.
        JudgeError: An answer cannot be judged; the message says where the sampled answers are.
    """
    with stop_on_signal(partial(describe_stop, "comparison", output)):
        result = compare_alternatives(request, TerminalProgress(), output)
    console.print(alternatives_table(result))
    console.print(f"[dim]{LEGEND}[/dim]", soft_wrap=True)
    if silent := _without_words(result):
        console.print(f"without a word of the language (not in the RPR): {silent}", soft_wrap=True)
    console.print(result.advice, soft_wrap=True)
    if output is not None:
        console.print(f"answers: {output / ANSWERS}\nresult:  {output / RESULT}", soft_wrap=True)


def alternatives_table(result: AlternativesResult) -> Table:
    """Return one row per method; on a wide terminal each says what it does."""
    request = result.request
    table = Table(
        title=f"{request.model} · {request.language} · English: {request.english}",
        title_justify="left",
        title_style="bold",
        box=ROUNDED,
    )
    table.add_column("method")
    described = console.width >= WIDE
    if described:
        table.add_column("what it does", style="dim")
    asked = any(each.wanted is not None for each in result.methods)
    # In two lines, so that the table fits into 80 columns.
    for heading in (
        "RPR",
        "95 %",
        "WPR",
        *(["wanted"] if asked else []),
        "changed\nper 1,000",
        "ms/\ntoken",
        "×\nplain",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in result.methods:
        rates, cost = each.judgement.rates, each.cost
        table.add_row(
            str(each.method), *([ABOUT[each.method.method]] if described else []),
            rate(rates.rpr), interval(rates.rpr_interval), rate(rates.wpr),
            *([rate(each.wanted)] if asked else []), f"{cost.interventions_per_1000_tokens:.1f}",
            f"{cost.ms_per_token:.1f}", f"{each.times_plain:.2f}",
        )  # fmt: skip
    return table


def _without_words(result: AlternativesResult) -> str:
    """Return how many answers of each method are in no rate because they have no word of the language, if any."""
    rates = {str(each.method): each.judgement.rates for each in result.methods}
    return " · ".join(f"{name} {one.empty:,} of {one.answers:,}" for name, one in rates.items() if one.empty)
