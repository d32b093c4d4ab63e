"""What the terminal shows: phases, the progress of training, marked text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status as Spinner
from rich.text import Text

from tlpo_ray.progress import PhaseUpdate, ProgressListener, TrainingProgress

console = Console(highlight=False)
LINE_INTERVAL_S = 10.0
"""Interval between two lines of progress without a terminal, e.g. in a log."""


@contextmanager
def step(description: str) -> Iterator[Spinner]:
    """Show a line with a spinner while the block runs; the line stays, ticked, when it is done."""
    with console.status(description) as spinner:
        yield spinner
    console.print(f"[green]✓[/green] {spinner.status}", soft_wrap=True)


class TerminalProgress(ProgressListener):
    """Shows progress on the terminal: a spinner per phase, and a live line while a run trains.

    Without a terminal, training prints a line every few seconds.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._task = TaskID(0)
        self._printed: float | None = None
        self._complete = False

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        """Show a spinner line for the phase."""
        with step(description) as spinner:
            shown = [description]

            def update(description: str | None = None, share: float | None = None) -> None:
                if description is not None:  # it says itself how far the phase is
                    shown[0] = description
                    spinner.update(description)
                elif share is not None:
                    spinner.update(f"{shown[0]} · {share:.0%}")

            yield update
            spinner.update(shown[0])

    def note(self, line: str) -> None:
        """Print the line."""
        console.print(line, soft_wrap=True)

    def training(self, progress: TrainingProgress) -> None:
        """Show prompts done, confusion, RPR so far, groups in the queue, policy version (= updates) and speed."""
        if console.is_terminal:
            self._update_bar(progress)  # its clock keeps running while the last checkpoint and the model are written
            return
        if self._complete:  # the state after the last prompt is reported more than once
            return
        self._complete = progress.complete
        now = time.monotonic()
        if self._printed is None:
            self._printed = now
        if self._complete or now - self._printed >= LINE_INTERVAL_S:
            self._printed = now
            console.print(
                f"TLPO {progress.settled:,} of {progress.prompts:,} prompts · {_summary(progress)}", soft_wrap=True
            )

    def training_done(self) -> None:
        """Leave the bar as it is."""
        self._close_bar()

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_bar()

    def _update_bar(self, progress: TrainingProgress) -> None:
        if self._bars is None:
            columns = (
                TextColumn("[bold]TLPO"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[summary]}"),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=console, transient=False)
            self._task = self._bars.add_task("", total=None, summary="")
            self._bars.start()
        self._bars.update(self._task, total=progress.prompts, completed=progress.settled, summary=_summary(progress))

    def _close_bar(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _summary(progress: TrainingProgress) -> str:
    tokens_per_second = progress.tokens_generated / max(progress.seconds, 1e-9)
    slow = f" · slow: {', '.join(progress.slow)}" if progress.slow else ""
    return (
        f"confusion now {progress.confusion_rate:.1%} · RPR so far {progress.rpr:.3f} · "
        f"queue {progress.queue_depth} · policy v{progress.version} · {tokens_per_second:,.0f} tok/s{slow}"
    )


def rate(value: float | None) -> str:
    """Return a rate as a table shows it."""
    return "–" if value is None else f"{value:.3f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Return an interval of a rate for a table, or a dash if there is none."""
    return rate(None) if bounds is None else "–".join(map(rate, bounds))


def marked(text: str, spans: list[tuple[int, int]]) -> Text:
    """Return text with spans (code points) marked: by colour, or by brackets without colour."""
    if console.color_system is None or console.no_color:
        for start, end in reversed(spans):
            text = f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"
        return Text(text)
    line = Text(text)
    for start, end in spans:
        line.stylize("bold white on red", start, end)
    return line
