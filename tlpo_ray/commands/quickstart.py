"""`tlpo quickstart` on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tlpo_ray.commands.display import TerminalProgress, console, marked
from tlpo_ray.commands.train import outcomes
from tlpo_ray.quickstart.comparison import Example
from tlpo_ray.quickstart.held_out import RealScore
from tlpo_ray.quickstart.run import QuickstartResult, resume_quickstart, run_quickstart
from tlpo_ray.quickstart.scoring import Score, ToyScore

EXCERPT = 240
"""Most characters of an answer that are shown: three lines of a terminal."""
NEWLINES = str.maketrans("\r\n", "  ")


def quickstart_command(
    model: str | None, prompts: str | None, stack: str, fresh: bool, seed: int, overrides: Sequence[str]
) -> None:
    """Run the quickstart and show what changed.

    Raises:
        UserError: `stack` or `model` does not exist, or the model has no use for `prompts`.
    """
    with TerminalProgress() as progress:
        result = run_quickstart(
            model=model, prompts=prompts, stack=stack, seed=seed, overrides=overrides, fresh=fresh, progress=progress
        )
    _print_result(result)


def resume_quickstart_command(folder: Path, overrides: Sequence[str]) -> None:
    """Resume a quickstart that was stopped or crashed, and show what changed.

    Raises:
        UserError: The folder does not hold a quickstart to resume, or a setting would change its result.
    """
    with TerminalProgress() as progress:
        result = resume_quickstart(folder, overrides, progress=progress)
    _print_result(result)


def _print_result(result: QuickstartResult) -> None:
    console.print()
    console.print(_table(result))
    console.print(_examples(result.examples))
    console.print(
        f"{result.run.updates} updates from {result.run.confusion_points} confusion points in {result.seconds:.0f} s\n"
        f"prompts  {outcomes(result.run)}\nmodel    {result.folder / 'model'}\n"
        f"result   {result.folder / 'result.json'}\nreport   {result.report.page}\n"
        f"next     tensorboard --logdir {result.folder / 'tensorboard'}",
        soft_wrap=True,
    )


def _table(result: QuickstartResult) -> Table:
    before, after, kl = result.comparison.before, result.comparison.after, result.comparison.kl
    asked = " to prompts never trained on" if isinstance(after, RealScore) else ""
    table = Table(title=f"{after.answers:,} answers{asked} at temperature {result.temperature:g}")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for label, value in _scores(before):
        table.add_row(label, value, dict(_scores(after))[label])
    if kl is not None:
        table.add_row("KL to the reference on clean contexts, nats", "", f"{kl.all_positions:.4f}")
    if kl is not None and isinstance(after, ToyScore):
        table.add_row("… beyond the token where the name begins", "", f"{kl.beyond_name:.4f}")
    return table


def _scores(score: Score) -> Iterator[tuple[str, str]]:
    """Yield the label and the value of each row of the table."""
    yield "answers without a foreign word (RPR)", f"{score.rpr:.1%}"
    if isinstance(score, RealScore):
        low, high = score.rpr_interval
        yield "… 95 % interval", f"{low:.1%} – {high:.1%}"
    yield "words without confusion (WPR)", f"{score.wpr:.1%}"
    if isinstance(score, ToyScore):
        yield "right currency, in any language", f"{score.accuracy_any_language:.1%}"
        yield "right currency, right language", f"{score.accuracy:.1%}"
    if isinstance(score, RealScore):
        yield "answers without a word, not in the RPR", f"{score.empty}"
    yield "length of a clean answer, characters", f"{score.clean_length:.1f}"


def _examples(examples: Sequence[Example]) -> Text:
    """Return answers that were confused, with their spans marked, and the new answers to the same questions."""
    lines: list[Text] = []
    for example in examples:
        lines += [
            Text(f"{example.question.language}  {example.question.text}", "dim"),
            Text("    before  ").append_text(_excerpt(example.before, example.before_spans)),
            Text("    after   ").append_text(_excerpt(example.after, example.after_spans)),
        ]
    return Text("\n").join(lines)


def _excerpt(answer: str, spans: list[tuple[int, int]]) -> Text:
    """Return an answer in one line with its spans marked: at most `EXCERPT` characters, with the first span in them."""
    start = 0 if not spans else max(0, min(spans[0][0] - EXCERPT // 3, len(answer) - EXCERPT))
    end = start + EXCERPT
    inside = [(max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start]
    text = marked(answer[start:end].translate(NEWLINES), inside)
    return Text("… " * (start > 0)).append_text(text).append(" …" * (end < len(answer)))
