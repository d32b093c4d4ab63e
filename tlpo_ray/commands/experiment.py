"""`tlpo experiment` on the terminal: a live line of the running trials, then results and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tlpo_ray.commands.display import TerminalProgress, console
from tlpo_ray.commands.report import report_command
from tlpo_ray.experiment.plan import load_plan
from tlpo_ray.experiment.run import FAILED, PHASE, SUCCEEDED, run_experiment
from tlpo_ray.progress import PhaseUpdate
from tlpo_ray.stopping import stop_on_signal

COLOURS = {SUCCEEDED: "green", FAILED: "red"}
"""Colour of the mark at the beginning of a note on a trial."""


def experiment_command(
    name: str,
    overrides: Sequence[str],
    folder: Path | None,
    jobs: int | None,
    seeds: Sequence[int] | None,
    address: str | None,
) -> None:
    """Run the plan's trials that have not finished, then its analyses; print where the results and the report are.

    Raises:
        ConfigError: The plan does not exist or is wrong.
        UserError: `jobs` or `address` do not go with the plan.
        TlpoError: A trial failed; the results of the others are kept.
    """
    plan = load_plan(name, [*overrides, *([f"seeds={list(seeds)}"] if seeds else [])])
    with stop_on_signal(lambda name: f"stopped by {name}; finished trials are kept, the same command runs the others"):
        result = run_experiment(plan, folder, jobs=jobs, address=address, progress=_TrialProgress())
    report_command(result.folder, None)


class _TrialProgress(TerminalProgress):
    """Shows the running trials in a bar that disappears, and a line for each trial that has ended."""

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        """Show a bar for the trials, and for everything else what `TerminalProgress` shows."""
        if description != PHASE:
            with super().phase(description) as update:
                yield update
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(description, total=1.0)

            def show(description: str | None = None, share: float | None = None) -> None:
                bars.update(task, description=description, completed=share)

            yield show

    def note(self, line: str) -> None:
        """Print a line, with a coloured mark if it begins with one."""
        if colour := COLOURS.get(line[:1]):
            console.print(f"[{colour}]{line[0]}[/{colour}]{escape(line[1:])}", soft_wrap=True)
        else:
            super().note(line)
