"""`tlpo doctor` on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.box import ROUNDED
from rich.table import Table
from rich.text import Text

from tlpo_ray.commands.display import TerminalProgress, console
from tlpo_ray.config.load import is_overridden, load_config
from tlpo_ray.errors import UserError
from tlpo_ray.progress import SILENT
from tlpo_ray.run.backends import BackendComparison, ConfusedAnswers, Origin, compare_backends
from tlpo_ray.run.doctor import Verdict, run_checks
from tlpo_ray.stopping import stop_on_signal

SIGNS = {Verdict.PASS: ("✓", "green"), Verdict.WARN: ("!", "yellow"), Verdict.FAIL: ("✗", "red")}
"""Verdict → (sign, colour)."""


def doctor_command(name: str | None, overrides: Sequence[str]) -> bool:
    """Show all checks; return whether none has failed.

    Raises:
        ConfigError: The configuration cannot be read.
    """
    makes_model = name == "quickstart" and not is_overridden(overrides, "model.path")
    if makes_model:
        from tlpo_ray.quickstart.settings import quickstart_preset

        name, overrides = quickstart_preset(), ["model.path=.", *overrides]
    config = None if name is None else load_config(name, overrides)
    failed = False
    for check in run_checks(config, makes_model=makes_model):
        sign, colour = SIGNS[check.verdict]
        line = Text.assemble((sign, colour), f" {check.about:<11}", check.result)
        if check.fix:
            line.append(f"\n  {'':<11}→ {check.fix}", "bold")
        console.print(line, soft_wrap=True)
        failed = failed or check.verdict is Verdict.FAIL
    return not failed


def ask_command(name: str, overrides: Sequence[str], answers: int, as_json: bool) -> bool:
    """Show how two engines answer the prompts of a run; return False if the backend is to blame for confusion.

    Args:
        name: YAML file or preset of the run.
        overrides: `key=value` settings.
        answers: Number of prompts.
        as_json: Print one line of JSON instead.

    Raises:
        TlpoError: See `compare_backends`.
        UserError: The run is a quickstart, whose model does not exist yet.
    """
    if name == "quickstart" and not is_overridden(overrides, "model.path"):
        raise UserError("--ask needs a model, and the quickstart makes its own: set model.path and data.prompts")
    config = load_config(name, overrides)
    with stop_on_signal(lambda signal: f"stopped by {signal}; nothing is kept"):
        comparison = compare_backends(config, answers=answers, progress=SILENT if as_json else TerminalProgress())
    if as_json:
        sys.stdout.write(json.dumps(comparison.to_json()) + "\n")
    else:
        _show(comparison)
    return comparison.origin not in (Origin.BACKEND, Origin.BOTH)


def _show(comparison: BackendComparison) -> None:
    table = Table(title="confused answers", title_justify="left", title_style="bold", box=ROUNDED)
    for heading in ("engine", "greedy", f"temperature {comparison.temperature:g}"):
        table.add_column(heading)
    for backend in comparison.backends:
        table.add_row(backend.name, _rate(backend.greedy), _rate(backend.sampled))
    console.print(table)
    greedy, parting = comparison.backends[0].greedy.answers, comparison.first_parting
    lines = [f"{comparison.equal_greedy:,} of {greedy:,} greedy answers are identical"]
    if parting is not None:
        lines[0] += f"; the earliest difference is after {parting.position} tokens, at prompt {parting.prompt_id}"
    lines.append(
        f"log-probabilities of {comparison.probes:,} sampled tokens: {comparison.logp_difference:.2g} nats apart on "
        f"average, {comparison.largest_logp_difference:.2g} at most"
    )
    if comparison.prompts_skipped:
        lines.append(f"{comparison.prompts_skipped:,} prompts could not be asked")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    console.print(Text(comparison.verdict, "bold"), soft_wrap=True)


def _rate(rate: ConfusedAnswers) -> str:
    low, high = rate.interval
    return f"{rate.confused} of {rate.answers} ({low:.1%} to {high:.1%})"
