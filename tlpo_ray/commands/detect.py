"""`tlpo detect`: where texts leave their language, or break another rule that has a detector."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar, get_args

import yaml
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

import detectors
from tlpo_ray.commands.detect_report import flagged_table, print_marked, rates_table, write_json
from tlpo_ray.commands.display import console
from tlpo_ray.config.yaml_text import parse_value, where_and_what
from tlpo_ray.detect.files import Advance, Format, Source, sources
from tlpo_ray.detect.judge import LANGUAGE_DETECTOR, Judge
from tlpo_ray.detect.units import Fields, Reader, Unit
from tlpo_ray.errors import ResourceError, UserError

Output = Literal["marked", "table", "jsonl"]
LONG = 512 * 2**10
"""Bytes on disk from which progress is shown."""
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one call, as they were given."""

    files: Sequence[Path] = ()
    language: str | None = None
    language_field: str | None = None
    english: str = "neutral"
    detector: str = LANGUAGE_DETECTOR
    settings: Sequence[str] = ()
    """`key=value` each."""
    field: str | None = None
    input_format: str = "auto"
    output: str = "marked"
    fail_above: float | None = None
    """Share of units, 0 to 1."""
    skip_bad: bool = False


def detect_command(request: Request) -> bool:
    """Show what is found in every unit, and a summary; whether no more units are confused than `fail_above` allows.

    Raises:
        UserError: an option or the input is wrong.
        DetectorError: there is no such detector, or it does not take the language or a setting.
    """
    is_language = request.detector == LANGUAGE_DETECTOR
    output: Output = _choice("--output", request.output, get_args(Output))
    judge = Judge(
        request.detector,
        request.language,
        english_setting(request.english),
        _settings(request.settings),
        counts_words=output == "table",
    )
    chosen = _sources(request, judge.needs_language)
    fields = Fields(text=request.field, language=request.language_field, needs_language=judge.needs_language)
    reader = Reader(fields, request.skip_bad)
    with _writing():
        for unit, language, spans in _judged(chosen, reader, judge, output):
            if spans and output == "jsonl":
                write_json(unit, spans, language)
            elif spans:
                print_marked(unit, spans, language if request.language is None else None)
        noun = _noun(chosen)
        _summarise(judge, reader, output, "another language" if is_language else request.detector, noun)
        return _is_within(request.fail_above, judge, noun)


def english_setting(value: str) -> detectors.English:
    """Check an `--english` value.

    Raises:
        UserError: it is neither of the two settings.
    """
    setting: detectors.English = _choice("--english", value, get_args(detectors.English))
    return setting


def _choice(option: str, value: str, choices: tuple[_Choice, ...]) -> _Choice:
    for choice in choices:
        if choice == value:
            return choice
    raise UserError(f"{option} {value}: expected {', '.join(choices[:-1])} or {choices[-1]}")


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """`hanja_in_brackets=exempt` and its like, values as in a configuration."""
    settings: dict[str, Any] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected key=value, e.g. hanja_in_brackets=exempt")
        try:
            settings[key.strip()] = parse_value(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {setting}: the value is not YAML ({where_and_what(error)}); quote it") from error
    return settings


def _sources(request: Request, needs_language: bool) -> list[Source]:
    """What to read; options that nothing there can meet are refused."""
    known: tuple[Format, ...] = get_args(Format)
    asked: Literal["auto"] | Format = _choice("--input-format", request.input_format, ("auto", *known))
    if request.fail_above is not None and not 0 <= request.fail_above <= 1:
        raise UserError(f"--fail-above {request.fail_above:g}: expected a share from 0 to 1, e.g. 0.05")
    if request.language is not None and request.language_field is not None:
        raise UserError("--language and --language-field: give one of them")
    named = request.field or request.language_field
    chosen = sources(request.files, None if asked == "auto" else asked, has_fields=named is not None)
    text = next((source.name for source in chosen if source.format == "text"), None)
    if named is not None and all(source.format == "text" for source in chosen):
        raise UserError(f"{text}: plain text has no field {named!r}; --input-format jsonl or csv reads records")
    if needs_language and text is not None:
        there_are = f"there are: {', '.join(detectors.languages())}"
        raise UserError(f"--language is missing: plain text ({text}) does not say its own; {there_are}")
    return chosen


def _noun(chosen: Sequence[Source]) -> str:
    """What the units are, one and many alike."""
    match {source.format == "text" for source in chosen}:
        case kinds if kinds == {True}:
            return "lines"
        case kinds if kinds == {False}:
            return "records"
        case _:
            return "lines and records"


def _judged(
    chosen: Sequence[Source], reader: Reader, judge: Judge, output: Output
) -> Iterator[tuple[Unit, str | None, Sequence[detectors.Confusion]]]:
    """Every unit with its language and its spans."""
    with _progress(chosen, output) as advance:
        for source in chosen:
            for unit in reader.units(source, advance):
                try:
                    language, spans = judge.judge(unit)
                except detectors.UnknownLanguageError as error:
                    kind, stop, detail = str(error).partition("; ")
                    reader.bad(unit.place, kind, stop + detail)
                else:
                    yield unit, language, spans


@contextmanager
def _progress(chosen: Sequence[Source], output: Output) -> Iterator[Advance]:
    """A bar of bytes on the terminal where there is long to wait; what is yielded is told of each byte read.

    None where it would get between lines that others write there: a pager behind a pipe, or our own JSON.
    """
    total = sum(source.size for source in chosen)
    on_terminal = sys.stdout.isatty()
    if total < LONG or not sys.stderr.isatty() or (output == "jsonl" if on_terminal else _is_pipe(sys.stdout)):
        yield lambda _: None
        return
    columns = (
        TextColumn("[dim]reading"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    # Rows and bar share a terminal: only one console can keep them apart.
    with Progress(*columns, console=console if on_terminal else Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda read: bars.advance(task, read)


def _is_pipe(stream: TextIO) -> bool:
    return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)


@contextmanager
def _writing() -> Iterator[None]:
    """Output that ends quietly when a reader has seen enough (`tlpo detect … | head`), as other commands' does.

    Raises:
        ResourceError: the disk is full. What was not written is dropped.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ResourceError(f"cannot write to standard output: {error.strerror or error}") from error
    finally:
        signal.signal(signal.SIGPIPE, before)


def _summarise(judge: Judge, reader: Reader, output: Output, what: str, noun: str) -> None:
    """What was found in all, beside the rows or, where these are for a machine, on standard error."""
    aside = Console(stderr=True, highlight=False)
    for note in [*judge.notes, *_left_out(reader)]:
        aside.print(Text(f"note: {note}"), soft_wrap=True)
    total = judge.total
    if not total.units:
        sentence = "nothing to judge: no text was found"
    else:
        sentence = f"{what} in {total.confused:,} of {total.units:,} {noun} ({total.rate:.1%})"
    if output == "table" and total.units:
        console.print(rates_table(judge.tallies) if total.rates else flagged_table(judge.tallies))
    (aside if output == "jsonl" else console).print(Text(sentence, style="bold"), soft_wrap=True)


def _left_out(reader: Reader) -> Iterator[str]:
    if reader.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in reader.skipped.most_common())
        yield f"bad records skipped: {reader.skipped.total():,} ({kinds})"
    if reader.not_utf8:
        yield f"lines with bytes that are not UTF-8: {reader.not_utf8:,}; these bytes are no evidence"


def _is_within(limit: float | None, judge: Judge, noun: str) -> bool:
    """Whether no more units are confused than allowed; says so if not."""
    total = judge.total
    if limit is None:
        return True
    if not total.units:
        raise UserError("--fail-above: there is nothing to judge")
    if total.rate <= limit:
        return True
    counts = f"{total.confused:,} of {total.units:,} {noun}"
    line = f"tlpo: a share of {total.rate:.4g} is confused ({counts}); --fail-above allows {limit:g}"
    Console(stderr=True, highlight=False).print(Text(line), soft_wrap=True)
    return False
