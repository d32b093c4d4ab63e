"""`tlpo doctor` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tlpo_ray.commands.display import console
from tlpo_ray.config.load import is_overridden, load_config
from tlpo_ray.run.doctor import Verdict, run_checks

SIGNS = {Verdict.PASS: ("✓", "green"), Verdict.WARN: ("!", "yellow"), Verdict.FAIL: ("✗", "red")}
"""Verdict → (sign, colour)."""


def doctor_command(name: str | None, overrides: Sequence[str]) -> bool:
    """Show all checks; return whether none has failed.

    Raises:
        ConfigError: The configuration cannot be read.
    """
    makes_model = name == "quickstart" and not is_overridden(overrides, "model.path")
    if makes_model:
        from tlpo_ray.quickstart.settings import quickstart_preset

        name, overrides = quickstart_preset(), ["model.path=.", *overrides]
    config = None if name is None else load_config(name, overrides)
    failed = False
    for check in run_checks(config, makes_model=makes_model):
        sign, colour = SIGNS[check.verdict]
        line = Text.assemble((sign, colour), f" {check.about:<11}", check.result)
        if check.fix:
            line.append(f"\n  {'':<11}→ {check.fix}", "bold")
        console.print(line, soft_wrap=True)
        failed = failed or check.verdict is Verdict.FAIL
    return not failed
