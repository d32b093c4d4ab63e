"""`tlpo train` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlpo_ray.commands.display import TerminalProgress, console
from tlpo_ray.config.load import load_config
from tlpo_ray.run.result import RunResult
from tlpo_ray.run.training import resume_training, run_training


def train_command(name: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    with TerminalProgress() as progress:
        result = run_training(load_config(name, overrides), progress=progress)
    _print_result(result)


def resume_command(folder: Path, overrides: Sequence[str]) -> None:
    """Resume a run that was stopped or crashed, and print where the result is.

    Raises:
        UserError: The folder holds no run to resume, or a setting would change its result.
    """
    with TerminalProgress() as progress:
        result = resume_training(folder, overrides, progress=progress)
    _print_result(result)


def _print_result(result: RunResult) -> None:
    console.print(
        f"{result.updates} updates from {result.confusion_points} confusion points, {result.tokens_per_group} "
        f"tokens generated for each; RPR of the sampled answers {result.rpr_sampled:.3f}\n"
        f"prompts: {outcomes(result)}\nmodel:   {result.model}\nresult:  {result.folder / 'result.json'}",
        soft_wrap=True,
    )


def outcomes(result: RunResult) -> str:
    """Return the prompts' outcomes in one line, with their sum."""
    accounting = result.accounting
    truncated = ["truncated"] if accounting.truncated else []
    names = ["clean", *truncated, "confused", "uninformative", "stale"]
    counts = [f"{getattr(accounting, name)} {name}" for name in names]
    return " + ".join([*counts, f"{sum(accounting.skipped.values())} skipped"]) + f" = {accounting.total}"
