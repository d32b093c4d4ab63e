"""`tlpo quickstart` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tlpo_ray.commands.display import TerminalProgress, console, marked
from tlpo_ray.commands.train import outcomes
from tlpo_ray.quickstart.comparison import Example
from tlpo_ray.quickstart.run import QuickstartResult, resume_quickstart, run_quickstart


def quickstart_command(stack: str, fresh: bool, seed: int, overrides: Sequence[str]) -> None:
    """Run the quickstart and show what changed.

    Raises:
        UserError: `stack` does not exist.
    """
    with TerminalProgress() as progress:
        result = run_quickstart(stack=stack, seed=seed, overrides=overrides, fresh=fresh, progress=progress)
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
    table = Table(title=f"{after.answers:,} answers at temperature {result.temperature:g}")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows: tuple[tuple[str, str, str], ...] = (
        ("answers without a foreign word (RPR)", f"{before.rpr:.1%}", f"{after.rpr:.1%}"),
        ("words without confusion (WPR)", f"{before.wpr:.1%}", f"{after.wpr:.1%}"),
        (
            "right currency, in any language", f"{before.accuracy_any_language:.1%}",
            f"{after.accuracy_any_language:.1%}",
        ),
        ("right currency, right language", f"{before.accuracy:.1%}", f"{after.accuracy:.1%}"),
        ("length of a clean answer, characters", f"{before.clean_length:.1f}", f"{after.clean_length:.1f}"),
        ("KL to the reference on clean contexts, nats", "", f"{kl.all_positions:.4f}"),
        ("… beyond the token where the name begins", "", f"{kl.beyond_name:.4f}"),
    )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


def _examples(examples: Sequence[Example]) -> Text:
    """Return answers that were confused, with their spans marked, and the new answers to the same questions."""
    lines: list[Text] = []
    for example in examples:
        lines += [
            Text(f"{example.question.language}  {example.question.text}", "dim"),
            Text("    before  ").append_text(marked(example.before, example.before_spans)),
            Text("    after   ").append_text(marked(example.after, example.after_spans)),
        ]
    return Text("\n").join(lines)
