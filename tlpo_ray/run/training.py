"""One run from its configuration to `result.json`: check everything that can be checked, start, train, export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from actors.chat import check_conversations, check_model, with_date
from tlpo_ray.cluster.events import recorded_events
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, TRAINERS, load_plugin
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.data.prompts import PromptSet
from tlpo_ray.errors import UserError
from tlpo_ray.files import lock_folder
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.run.build import Examine, build_components, can_examine_early, check_engines
from tlpo_ray.run.components import Components, Fleet, Learner
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import RunFolder, is_quickstart, refuse_used_folder
from tlpo_ray.run.journal import Journal
from tlpo_ray.run.loop import TrainSummary, train
from tlpo_ray.run.recovery import replay
from tlpo_ray.run.result import RunResult, run_result
from tlpo_ray.run.resume import FINGERPRINT, ResumePoint, last_state, record_prompts, resumed_config, verify_prompts
from tlpo_ray.run.trackers import check_trackers, start_trackers
from tlpo_ray.stopping import check_stop, stop_on_signal, temporary_folder


class Examination(Protocol):
    """Examines the policy before and after training, e.g. by its answers to test questions."""

    def before(self, fleet: Fleet) -> None:
        """Examine the policy that training starts from; the learner may still be starting."""

    def after(self, fleet: Fleet) -> None:
        """Examine the trained policy."""

    def results(self, model: Path) -> Mapping[str, object]:
        """Return what goes into `result.json`; `model` is the folder of the trained policy."""


def resume_training(folder: Path, overrides: Sequence[str] = (), *, progress: ProgressListener = SILENT) -> RunResult:
    """Resume a run that was stopped or crashed, and return its result.

    Args:
        folder: The run folder.
        overrides: `key=value` settings that do not change the run's result, e.g. `rollout.num_actors=1`.
        progress: Receives the run's progress.

    Raises:
        UserError: The folder holds no run to resume, or a quickstart, or a setting would change its result.
        TlpoError: See `tlpo_ray.errors`.
    """
    config = resumed_config(folder, overrides)
    if is_quickstart(folder):
        raise UserError(f"the run in {folder} is a quickstart, which ends with a comparison: use resume_quickstart")
    return run_training(config, resumed=True, progress=progress)


def run_training(
    config: RunConfig,
    *,
    examination: Examination | None = None,
    seconds: dict[str, float] | None = None,
    resumed: bool = False,
    progress: ProgressListener = SILENT,
) -> RunResult:
    """Train as the configuration says, and return the result, which is also written to `result.json`.

    Nothing is printed. The run folder `config.folder` then holds the trained policy, metrics, experiences, checkpoints
    and the result.

    Args:
        config: The run's configuration (`tlpo_ray.load_config`).
        examination: Examines the policy before and after training.
        seconds: Wall time by phase of what was done before; the phases of this run are added to it.
        resumed: Resume the run in `config.folder`.
        progress: Receives the run's progress.

    Raises:
        TlpoError: See `tlpo_ray.errors`. A run that has started leaves a folder from which it can be resumed.
    """
    seconds = {} if seconds is None else seconds
    given, config = config, _with_absolute_paths(config)
    if not resumed:
        refuse_used_folder(config.folder)
    with stop_on_signal(partial(describe_stop, config.folder)):
        summary, folder = _train(config, examination, seconds, progress, resumed=resumed)
        results: Mapping[str, object] = {}
        if examination is not None:
            check_stop()  # if a signal came too late to stop the training: this may take as long again
            with stopwatch(seconds, "score"):
                results = examination.results(folder.path / "model")
        result = run_result(given, summary, seconds, results)  # with the folder as the caller knows it
        folder.write_result(result.to_json())
    return result


def describe_stop(folder: Path, name: str) -> str:
    """Return how to continue the run in a folder after the signal of this name (`stopping.Describe`)."""
    if not (folder / "config.yaml").exists():
        return f"stopped by {name} before the run had started: start it again"
    if (folder / "result.json").exists():
        return f"stopped by {name}; the run in {folder} is complete, tlpo report {folder} writes its report"
    return f"stopped by {name}; nothing is lost, resume with: tlpo train --resume {folder}"


def _train(
    config: RunConfig,
    examination: Examination | None,
    seconds: dict[str, float],
    progress: ProgressListener,
    *,
    resumed: bool,
) -> tuple[TrainSummary, RunFolder]:
    """Do what `run_training` does between its checks and the result."""
    with ExitStack() as stack:
        if resumed:
            stack.enter_context(lock_folder(config.folder))
        spool = stack.enter_context(temporary_folder("tlpo-prompts-"))
        prompts = load_prompts(config.data, config.detector, config.seed, spool)
        for line in prompts.note_lines():
            progress.note(line)
        check_model(config.model, config.learner.lora)
        check_conversations(config.model, prompts.examples, skip=config.data.skip_bad)
        if not resumed:
            config = config.model_copy(update={"model": with_date(config.model)})
        check_engines(config)
        check_trackers(config.trackers)
        resume = _resume_point(config, prompts, progress) if resumed else None
        begun = _begun(config, prompts, resume, examination, seconds, progress)
        components, folder = stack.enter_context(begun)
        with stopwatch(seconds, "train"):
            summary = train(config, components, folder, progress.training, None if resume is None else resume.state)
        progress.training_done()
        if examination is not None:
            with stopwatch(seconds, "evaluate_after"):
                examination.after(components.fleet)
    return summary, folder


@contextmanager
def _begun(
    config: RunConfig,
    prompts: PromptSet,
    resume: ResumePoint | None,
    examination: Examination | None,
    seconds: dict[str, float],
    progress: ProgressListener,
) -> Iterator[tuple[Components, RunFolder]]:
    """Start the components, open the run's folder, and examine the policy as soon as the fleet can answer."""
    with ExitStack() as stack, ExitStack() as part:
        folders: list[RunFolder] = []

        def start(what: str) -> None:
            part.enter_context(stopwatch(seconds, "start"))
            part.enter_context(progress.phase(what))

        def open_and_examine(fleet: Fleet) -> None:
            part.close()
            folders.append(stack.enter_context(_run_folder(config, prompts, resume, examination is not None)))
            if examination is not None:
                with stopwatch(seconds, "evaluate_before"):
                    examination.before(fleet)

        def examine_early(fleet: Fleet) -> None:
            open_and_examine(fleet)
            start("the learner's weights in every rollout actor")

        # A run that goes on after an update is examined with the learner's weights.
        is_early = examination is not None and can_examine_early(config) and (resume is None or resume.state is None)
        start(_description(config, prompts))
        components = stack.enter_context(_components(config, prompts, resume, examine_early if is_early else None))
        if is_early:
            part.close()
        else:
            open_and_examine(components.fleet)
        yield components, folders[0]


@contextmanager
def _run_folder(
    config: RunConfig, prompts: PromptSet, resume: ResumePoint | None, is_quickstart: bool
) -> Iterator[RunFolder]:
    """Open the run's folder, locked, with its trackers."""
    with ExitStack() as stack:
        resumed_at = None if resume is None else resume.version
        folder = stack.enter_context(RunFolder(config, resumed_at, quickstart=is_quickstart))
        if resume is None:
            stack.enter_context(lock_folder(config.folder))
        begun = "a new run" if resume is None else f"resumed after update {resume.version}"
        stack.enter_context(recorded_events(folder.path, begun))
        if resume is None or not (folder.path / FINGERPRINT).exists():
            record_prompts(prompts.prompts, folder.path)
        if config.trackers:
            folder.metrics.listeners.append(stack.enter_context(start_trackers(config)).log)
        yield folder


def _resume_point(config: RunConfig, prompts: PromptSet, progress: ProgressListener) -> ResumePoint:
    """Return where the run in the configuration's folder stopped."""
    verify_prompts(prompts.prompts, config.folder)
    resume = ResumePoint(last_state(Journal(config.folder / "journal"), config.detector))
    where = "from the beginning" if resume.state is None else f"after update {resume.version}"
    progress.note(f"resuming {config.folder} {where}")
    return resume


@contextmanager
def _components(
    config: RunConfig, prompts: PromptSet, resume: ResumePoint | None, examine: Examine | None
) -> Iterator[Components]:
    """Start the components, at the state that a run is resumed from."""
    state = None if resume is None else resume.state

    def prepare(learner: Learner) -> None:
        if state is not None:
            replay(learner, Journal(config.folder / "journal"), config.folder / "checkpoints", state.version)

    with build_components(config, prompts, None if state is None else state.exchange, prepare, examine) as components:
        yield components


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with local paths made absolute.

    Actors and ranks run in folders of their own, and the run may be resumed from another one.
    """
    model, data, detector = config.model, config.data, config.detector
    if Path(model.path).exists():
        model = model.model_copy(update={"path": str(Path(model.path).resolve())})
    if data.prompts and Path(data.prompts).exists():
        data = data.model_copy(update={"prompts": str(Path(data.prompts).resolve())})
    settings = detector.settings
    if Path(str(settings.get("file", ""))).is_file():
        detector = detector.model_copy(update={"settings": settings | {"file": str(Path(settings["file"]).resolve())}})
    changed = {"folder": config.folder.resolve(), "model": model, "data": data, "detector": detector}
    return config.model_copy(update=changed)


def _description(config: RunConfig, prompts: PromptSet) -> str:
    """Describe the run in a line: prompts, processes, engines."""
    rollout, learner = config.rollout, config.learner.for_dtype(config.model.dtype)
    count = f"{len(prompts.prompts):,} prompts"
    engine = load_plugin(ROLLOUT_ENGINES, rollout.engine).display_name
    trainer = load_plugin(TRAINERS, learner.engine).display_name.format(zero_stage=learner.zero_stage)
    if config.stack == "local":
        return f"{count} · one process: {engine} and {trainer}"
    actors, ranks = _plural(rollout.num_actors, "rollout actor"), _plural(learner.num_ranks, "learner rank")
    return f"{count} · {actors} ({engine}), {ranks} ({trainer}) on Ray"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
