"""The quickstart: make a small model that mixes languages, repair it, and compare its answers before and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError
from tlpo_ray.files import disk_errors
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.quickstart.comparison import Comparison, ComparisonResults, Example
from tlpo_ray.quickstart.settings import ROUNDS, STACKS, quickstart_preset
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import World, toy_world
from tlpo_ray.report.page import Report, write_report
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import is_quickstart, refuse_unwritable_folder
from tlpo_ray.run.result import RunResult
from tlpo_ray.run.resume import resumed_config
from tlpo_ray.run.training import run_training

EXAMPLES = 10
"""Answers that a result shows before and after training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartResult:
    """What a quickstart has changed."""

    folder: Path
    """Run folder, as the configuration names it."""
    run: RunResult
    comparison: ComparisonResults
    examples: Sequence[Example]
    """A few questions that were answered in a wrong language before training."""
    temperature: float
    """Sampling temperature of all answers."""
    seconds: float
    """Wall time from the toy model to the scores; without the parts before a resume."""
    report: Report


def run_quickstart(
    *,
    stack: str = "distributed",
    seed: int = 0,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    progress: ProgressListener = SILENT,
) -> QuickstartResult:
    """Train a toy model that mixes languages, repair it with TLPO, and write the run folder and its report.

    It takes a few minutes on a CPU. The folder of an earlier quickstart is kept under another name.

    Args:
        stack: `distributed` (Ray, vLLM, DeepSpeed) or `local` (one process, transformers and torch).
        seed: Seed of toy model, prompts and run.
        overrides: `key=value` settings of the run.
        fresh: Train the toy model again instead of using the cache.
        progress: Receives progress; the share of the toy model's training among it.

    Raises:
        UserError: The stack does not exist.
        TlpoError: See `tlpo_ray.errors`.
    """
    if stack not in STACKS:
        raise UserError(f"--stack {stack}: expected {' or '.join(STACKS)}")
    settings = [f"seed={seed}", *STACKS[stack], *overrides]
    # Report a wrong setting or a folder without write access before a model is trained.
    refuse_unwritable_folder(load_config(quickstart_preset(), ["model.path=.", *settings]).folder)
    world, seconds = toy_world(), dict[str, float]()
    with stopwatch(seconds, "toy_model"):
        model = _toy_model(seed, fresh, progress)
    config = load_config(quickstart_preset(), [f"model.path={model}", *settings])
    _keep_earlier_run(config.folder, progress)
    with disk_errors(f"the run folder {config.folder}"):
        config = _with_prompts(config, world)
    return _train(config, world, seconds, progress)


def resume_quickstart(
    folder: Path, overrides: Sequence[str] = (), *, progress: ProgressListener = SILENT
) -> QuickstartResult:
    """Resume a quickstart that was stopped or crashed.

    Args:
        folder: Its run folder.
        overrides: `key=value` settings that do not change the result.
        progress: Receives progress.

    Raises:
        UserError: The folder does not hold a quickstart, or a setting would change its result.
        TlpoError: See `tlpo_ray.errors`.
    """
    config = resumed_config(folder, overrides)
    if not is_quickstart(folder):
        raise UserError(f"the run in {folder} is not a quickstart: resume it with tlpo train --resume {folder}")
    return _train(config, toy_world(), {}, progress, resumed=True)


def _train(
    config: RunConfig, world: World, seconds: dict[str, float], progress: ProgressListener, *, resumed: bool = False
) -> QuickstartResult:
    comparison = Comparison(world, config, progress)
    run = run_training(config, examination=comparison, seconds=seconds, resumed=resumed, progress=progress)
    return QuickstartResult(
        folder=config.folder,
        run=run,
        comparison=comparison.scores,
        examples=comparison.examples(EXAMPLES),
        temperature=config.rollout.temperature,
        seconds=sum(seconds.values()),
        report=write_report(config.folder, config.folder / "report"),
    )


def _toy_model(seed: int, fresh: bool, progress: ProgressListener) -> Path:
    training = "training a toy model that mixes languages"
    with progress.phase("toy model") as update:
        model = cached_toy_model(seed, lambda share, loss: update(f"{training}, loss {loss:.3f}", share), fresh=fresh)
        update(f"toy model: {model}")
    return model


def _with_prompts(config: RunConfig, world: World) -> RunConfig:
    """Write the run's prompts into its folder, unless the user gave other prompts."""
    if config.data.prompts:
        return config
    file = config.folder / "prompts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    world.write_prompts(file, ROUNDS, config.seed)
    return config.model_copy(update={"data": config.data.model_copy(update={"prompts": str(file)})})


def _keep_earlier_run(folder: Path, progress: ProgressListener) -> None:
    """Move the folder of an earlier quickstart away, to a name with the time at which that run was started."""
    config = folder / "config.yaml"
    if config.exists():
        started = time.strftime("%Y%m%d-%H%M%S", time.localtime(config.stat().st_mtime))
        kept = folder.with_name(f"{folder.name}-{started}")
        folder.rename(kept)
        progress.note(f"the last run is kept as {kept}")
