"""`tlpo doctor`: what is wrong with a machine or a configuration, before a run finds out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tlpo_ray.commands.display import console
from tlpo_ray.config.load import load_config, sets
from tlpo_ray.doctor import Verdict, examine

SIGNS = {Verdict.FINE: ("✓", "green"), Verdict.DOUBTFUL: ("!", "yellow"), Verdict.BROKEN: ("✗", "red")}


def doctor_command(name: str | None, overrides: Sequence[str]) -> bool:
    """Show all findings; whether nothing is broken.

    Raises:
        ConfigError: the configuration cannot be read.
    """
    makes_model = name == "quickstart" and not sets(overrides, "model.path")
    if makes_model:
        from tlpo_ray.commands.quickstart import quickstart_preset

        name, overrides = quickstart_preset(), ["model.path=.", *overrides]
    config = None if name is None else load_config(name, overrides)
    broken = False
    for finding in examine(config, makes_model=makes_model):
        sign, colour = SIGNS[finding.verdict]
        line = Text.assemble((sign, colour), f" {finding.about:<11}", finding.found)
        if finding.mend:
            line.append(f"\n  {'':<11}→ {finding.mend}", "bold")
        console.print(line, soft_wrap=True)
        broken = broken or finding.verdict is Verdict.BROKEN
    return not broken
