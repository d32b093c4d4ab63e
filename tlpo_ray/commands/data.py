"""`tlpo data` on the terminal: counts and examples of dropped prompts, counts of preference pairs."""

from __future__ import annotations

from rich.box import ROUNDED
from rich.table import Table
from rich.text import Text

from tlpo_ray.commands.display import TerminalProgress, console, marked
from tlpo_ray.data.prepare import DroppedPrompt, FilteredPrompts, prepare_prompts
from tlpo_ray.data.prompts import note_lines
from tlpo_ray.data.requests import PairsRequest, PrepareRequest

EXCERPT = 80
"""Number of characters of a dropped prompt that are shown."""


def prepare_command(request: PrepareRequest) -> None:
    """Write the prompts of a dataset that Appendix B keeps, and show how many were dropped for which reason.

    Raises:
        UnknownLanguageError: No detector exists for the language.
        UserError: The output already exists or cannot be written.
        PromptFileError: The source cannot be read, or no prompt in it is kept.
    """
    prepared = prepare_prompts(request, TerminalProgress())
    title = f"{prepared.source} · {request.language} · English: {request.english}"
    _show_filtered(prepared.filtered, title)
    console.print(f"prompts: {prepared.output}\nreport:  {prepared.report}", soft_wrap=True)


def pairs_command(request: PairsRequest) -> None:
    """Write a clean and a confused answer for every prompt that has both, and show how many have not.

    Raises:
        UnknownLanguageError: No detector exists for the language.
        UserError: The request contradicts itself, the output already exists, or no prompt gives a pair.
        PromptFileError: The prompts cannot be read.
        ModelError: The model cannot be loaded.
    """
    from tlpo_ray.baselines.pairs import make_pairs  # late: `tlpo data prepare` needs no model

    result = make_pairs(request, TerminalProgress())
    console.print(f"{result.summary()}\npairs:  {result.output}\nreport: {result.report}", soft_wrap=True)


def _show_filtered(filtered: FilteredPrompts, title: str) -> None:
    """Print the counts by reason, then examples with the words marked that are the reason."""
    console.print(Text(title, "bold"), soft_wrap=True)
    table = Table(box=ROUNDED)
    for heading in ("prompts", "number", "share"):
        table.add_column(heading, justify="left" if heading == "prompts" else "right")
    counts = [("read", filtered.read), ("kept", len(filtered.prompts)), *filtered.reasons()]
    for number, (name, count) in enumerate(counts):
        table.add_row(name, f"{count:,}", f"{count / filtered.read:.1%}", end_section=number == 1)
    console.print(table)
    for line in note_lines(filtered.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for reason, _ in filtered.reasons():
        for example in filtered.examples[reason]:
            console.print(Text.assemble((f"{reason}: ", "dim"), f"{example.id} ", _excerpt(example)), soft_wrap=True)
    console.print("[dim]counts of the paper's Table 3: not on record here[/dim]")


def _excerpt(example: DroppedPrompt) -> Text:
    """Return one line around the first word that is the reason."""
    first = example.spans[0][0] if example.spans else 0
    start = max(0, first - EXCERPT // 4)
    end = start + EXCERPT
    text = "".join(char if char.isprintable() else " " for char in example.text[start:end])
    spans = [(left - start, min(right, end) - start) for left, right in example.spans if start <= left < end]
    before, after = "…" if start else "", "…" if end < len(example.text) else ""
    return Text(before) + marked(text, spans) + Text(after)
