"""`tlpo detect` on the terminal: findings as they come, then a summary."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TextIO, get_args

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from tlpo_ray.commands.choices import choose
from tlpo_ray.commands.detect_report import flagged_table, print_marked, rates_table, write_json
from tlpo_ray.commands.display import console
from tlpo_ray.detect.detection import Detection, detect
from tlpo_ray.detect.inputs import OnRead, Source
from tlpo_ray.detect.request import LANGUAGE_DETECTOR, DetectRequest, InputFormat
from tlpo_ray.errors import ResourceError, UserError

Output = Literal["marked", "table", "jsonl"]
PROGRESS_FROM_BYTES = 512 * 2**10
"""Size of all inputs on disk from which a progress bar is shown."""


def input_format_setting(value: str) -> InputFormat | None:
    """Return the value of `--input-format`; None for "auto".

    Raises:
        UserError: The format does not exist.
    """
    formats: tuple[InputFormat, ...] = get_args(InputFormat)
    choice: Literal["auto"] | InputFormat = choose("--input-format", value, ("auto", *formats))
    return None if choice == "auto" else choice


def detect_command(request: DetectRequest, output: str, fail_above: float | None) -> bool:
    """Print what is found in every unit, and a summary.

    Args:
        request: what to check, and by which rule.
        output: "marked" text, a "table" of rates, or "jsonl".
        fail_above: highest share of confused units (0 to 1) that is allowed; None allows any.

    Returns:
        Whether no more units are confused than `fail_above` allows.

    Raises:
        UserError: An option or the input is wrong.
        DetectorError: The detector does not exist, or does not support the language or a setting.
        ResourceError: Standard output cannot be written.
    """
    output_format: Output = choose("--output", output, get_args(Output))
    if fail_above is not None and not 0 <= fail_above <= 1:
        raise UserError(f"--fail-above {fail_above:g}: expected a share from 0 to 1, e.g. 0.05")
    detection = detect(replace(request, count_words=output_format == "table"))
    with _standard_output():
        with _progress_bar(detection.sources, output_format) as on_read:
            for found in detection.findings(on_read):
                if not found.findings:
                    continue
                if output_format == "jsonl":
                    write_json(found)
                else:
                    print_marked(found, show_language=request.language is None)
        noun = _noun(detection.sources)
        rule = "another language" if request.detector == LANGUAGE_DETECTOR else request.detector
        _print_summary(detection, output_format, rule, noun)
        return _is_within(fail_above, detection, noun)


def _noun(sources: Sequence[Source]) -> str:
    """Return the noun for the units of these sources, in the plural."""
    match {source.format == "text" for source in sources}:
        case kinds if kinds == {True}:
            return "lines"
        case kinds if kinds == {False}:
            return "records"
        case _:
            return "lines and records"


@contextmanager
def _progress_bar(sources: Sequence[Source], output: Output) -> Iterator[OnRead]:
    """Show how many bytes have been read, if that takes long; yields a function that receives the bytes of each read.

    Without a bar where it would mix with lines that others write to the terminal: a pager behind a pipe, or our JSON.
    """
    total = sum(source.nbytes for source in sources)
    on_terminal = sys.stdout.isatty()
    mixes = output == "jsonl" if on_terminal else _is_pipe(sys.stdout)
    if total < PROGRESS_FROM_BYTES or not sys.stderr.isatty() or mixes:
        yield lambda nbytes: None
        return
    columns = (
        TextColumn("[dim]reading"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    # Where findings and bar share a terminal, only one console can keep them apart.
    with Progress(*columns, console=console if on_terminal else Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda nbytes: bars.advance(task, nbytes)


def _is_pipe(stream: TextIO) -> bool:
    return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)


@contextmanager
def _standard_output() -> Iterator[None]:
    """Let the command end quietly when its reader closes the pipe (`tlpo detect … | head`), as other commands do.

    Raises:
        ResourceError: The disk is full. What was not written is dropped.
    """
    # Python ignores SIGPIPE and would print a traceback; the default action ends the process.
    previous = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes standard output once more when it exits, and would report the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ResourceError(f"cannot write to standard output: {error.strerror or error}") from error
    finally:
        signal.signal(signal.SIGPIPE, previous)


def _print_summary(detection: Detection, output: Output, rule: str, noun: str) -> None:
    """Print the totals below the findings or, if those are JSON for a program, to standard error."""
    stderr = Console(stderr=True, highlight=False)
    for note in [*detection.limitations, *_left_out(detection)]:
        stderr.print(Text(f"note: {note}"), soft_wrap=True)
    total = detection.total
    if not total.units:
        sentence = "nothing to judge: no text was found"
    else:
        sentence = f"{rule} in {total.confused:,} of {total.units:,} {noun} ({total.confused_share:.1%})"
    if output == "table" and total.units:
        console.print(rates_table(detection.totals) if total.rates else flagged_table(detection.totals))
    (stderr if output == "jsonl" else console).print(Text(sentence, style="bold"), soft_wrap=True)


def _left_out(detection: Detection) -> Iterator[str]:
    """Yield one sentence per kind of input that was not checked."""
    if detection.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in detection.skipped.items())
        yield f"bad records skipped: {sum(detection.skipped.values()):,} ({kinds})"
    if detection.not_utf8:
        yield f"lines with bytes that are not UTF-8: {detection.not_utf8:,}; these bytes are ignored"


def _is_within(limit: float | None, detection: Detection, noun: str) -> bool:
    """Return whether no more units are confused than allowed; print the share if more are."""
    total = detection.total
    if limit is None:
        return True
    if not total.units:
        raise UserError("--fail-above: there is nothing to judge")
    if total.confused_share <= limit:
        return True
    counts = f"{total.confused:,} of {total.units:,} {noun}"
    line = f"tlpo: a share of {total.confused_share:.4g} is confused ({counts}); --fail-above allows {limit:g}"
    Console(stderr=True, highlight=False).print(Text(line), soft_wrap=True)
    return False
