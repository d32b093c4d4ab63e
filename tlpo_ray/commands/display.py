"""What a run shows on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.status import Status as Spinner
from rich.text import Text

if TYPE_CHECKING:
    from tlpo_ray.run.loop import Listener
    from tlpo_ray.run.loop import Progress as RunProgress

console = Console(highlight=False)
LINE_S = 10.0
"""Between two lines of progress in a log."""


@contextmanager
def step(what: str) -> Iterator[Spinner]:
    """A line with a spinner while something takes time; it stays, ticked, when that is done."""
    with console.status(what) as spinner:
        yield spinner
    console.print(f"[green]✓[/green] {spinner.status}", soft_wrap=True)


@contextmanager
def training_progress() -> Iterator[Listener]:
    """A live line: prompts done, confusion, RPR so far, groups in the queue, policy version (= updates), speed.

    Where there is no terminal, a line now and then.
    """
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("[bold]TLPO"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        task = bars.add_task("", total=None, shown="")

        def show(progress: RunProgress) -> None:
            accounting = progress.status.accounting
            bars.update(task, total=accounting.total, completed=accounting.settled, shown=_figures(progress))

        yield show


class _Lines:
    """A line of progress every few seconds, and the last one."""

    def __init__(self) -> None:
        self._printed = time.monotonic()
        self._complete = False

    def __call__(self, progress: RunProgress) -> None:
        accounting, now = progress.status.accounting, time.monotonic()
        if not self._complete and (now - self._printed >= LINE_S or accounting.complete):
            self._printed, self._complete = now, accounting.complete
            console.print(
                f"TLPO {accounting.settled:,} of {accounting.total:,} prompts · {_figures(progress)}", soft_wrap=True
            )


def _figures(progress: RunProgress) -> str:
    tokens_per_second = progress.tally.tokens_generated / max(progress.seconds, 1e-9)
    return (
        f"confusion now {progress.status.confusion_rate:.1%} · RPR so far {progress.tally.rpr:.3f} · "
        f"queue {progress.status.queue_depth} · policy v{progress.version} · {tokens_per_second:,.0f} tok/s"
    )


def rate(value: float | None) -> str:
    """A rate in a table."""
    return "–" if value is None else f"{value:.3f}"


def marked(text: str, spans: list[tuple[int, int]]) -> Text:
    """Text with the given spans (code points) marked: by colour, or by brackets where there is none."""
    if console.color_system is None or console.no_color:
        for start, end in reversed(spans):
            text = f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"
        return Text(text)
    line = Text(text)
    for start, end in spans:
        line.stylize("bold white on red", start, end)
    return line
