"""`tlpo train` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlpo_ray.commands.display import console
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.run.resume import resumed_config
from tlpo_ray.run.training import Result, run_training


def train_command(name: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    _tell(config := load_config(name, overrides), run_training(config))


def resume_command(folder: Path, overrides: Sequence[str]) -> None:
    """Go on with a run that was stopped or died, and print where the result is.

    Raises:
        UserError: there is none, or a setting would change what comes of it.
    """
    config = resumed_config(folder, overrides)
    _tell(config, run_training(config, resumed=True))


def _tell(config: RunConfig, result: Result) -> None:
    console.print(
        f"{result['updates']} updates from {result['confusion_points']} confusion points, {result['tokens_per_group']} "
        f"tokens generated for each; RPR of the sampled answers {result['rpr_sampled']:.3f}\n"
        f"prompts: {outcomes(result)}\nmodel:   {config.folder / 'model'}\nresult:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def outcomes(result: Result) -> str:
    """The prompts' outcomes in one line, with their sum."""
    prompts = result["prompts"]
    assert isinstance(prompts, dict)
    skipped = sum(prompts["skipped"].values())
    named = [f"{prompts[name]} {name}" for name in ("clean", "confused", "uninformative", "stale")]
    return " + ".join([*named, f"{skipped} skipped"]) + f" = {prompts['total']}"
