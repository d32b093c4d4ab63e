"""`tlpo status --post-mortem` on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from tlpo_ray.cluster.events import FAILED, WARNING
from tlpo_ray.cluster.post_mortem import PostMortem, clock, post_mortem
from tlpo_ray.commands.display import console
from tlpo_ray.commands.status import remote_status

LOUD = {FAILED: "bold red", WARNING: "yellow"}


def post_mortem_command(target: str, address: str | None, as_json: bool) -> None:
    """Print what a run's folder holds about its end: a folder of this machine, or one that a cluster sees.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    if address is None:
        found = post_mortem(Path(target))
    else:
        found = PostMortem.from_json(remote_status(target, address, "--post-mortem"))
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), ensure_ascii=False) + "\n")
        return
    console.print(Text("\n").join(_lines(found)), soft_wrap=True)


def _lines(found: PostMortem) -> Iterator[Text]:
    yield Text(f"{'run':<10}", "bold").append(str(found.folder), "not bold")
    yield Text(f"{'end':<10}", "bold").append(found.ending, "not bold")
    if found.progress is not None:
        yield Text(f"{'progress':<10}", "bold").append(found.progress, "not bold")
    if found.events:
        yield Text("\nwhat happened", "bold")
    for event in found.events:
        is_the_end = event.kind == FAILED and found.ending.endswith(event.text)
        text = "the run failed" if is_the_end else event.text
        yield Text(f"{clock(event.time)}  ", "dim").append(text, LOUD.get(event.kind, "not dim"))
        for line in event.details:
            yield Text(f"    │ {line}", "dim")
    for name, lines in found.output.items():
        yield Text(f"\nlast lines of {name}", "bold")
        for line in lines:
            yield Text(f"    {line}", "dim")
    for file in found.stacks:
        yield Text(f"\nstacks    {file}")
