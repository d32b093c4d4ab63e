"""An experiment from its plan to its results: run the trials that are missing, then the analyses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.load import load_config
from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.errors import TlpoError, UserError
from tlpo_ray.experiment.plan import AnalysisName, Plan, Target, Trial
from tlpo_ray.experiment.trial import ResultRow, finished_row
from tlpo_ray.files import disk_errors, write_json, write_lines
from tlpo_ray.progress import SILENT, ProgressListener

RESULTS, PLAN = "results.jsonl", "experiment.yaml"
DEFAULT_JOBS = 2
"""Trials at once if the user does not say."""
PHASE = "trials"
"""Phase that encloses all trials."""
SUCCEEDED, FAILED = "✓", "✗"
"""First character of the note on a trial that has ended."""
SUMMARY = {"rpr": "RPR", "accuracy": "accuracy"}
"""Metrics in the note on a trial, with their headings."""
ANALYSES: Mapping[AnalysisName, str] = {"advantage": "advantage.json", "shift": "shift.json"}
"""Analyses by name, each with its file in the experiment's folder."""

TrialFolders = Sequence[tuple[Trial, Path]]
"""Trials, each with its folder."""
OnStart = Callable[[Trial], None]
TrialOutcome = tuple[Trial, ResultRow | str]
"""A trial with its row, or with the reason why it failed."""
TrialExecutor = Callable[[TrialFolders, OnStart], Iterator[TrialOutcome]]
"""Runs trials, calls `OnStart` as each starts, and yields each as it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """Results of a finished experiment; `report.page.write_report(result.folder, …)` makes a page of them."""

    plan: Plan
    folder: Path
    """Folder of the experiment, which can be given to `tlpo report`."""
    rows: tuple[ResultRow, ...]
    """One row per trial, in the plan's order."""
    analyses: tuple[Path, ...]
    """Files of the plan's analyses."""


def run_experiment(
    plan: Plan,
    folder: Path | None = None,
    *,
    jobs: int | None = None,
    address: str | None = None,
    progress: ProgressListener = SILENT,
) -> ExperimentResult:
    """Run the trials of a plan that have not finished yet, then its analyses.

    Args:
        plan: The plan, e.g. from `load_plan`.
        folder: Folder of the experiment; None takes `experiments/` and the plan's name.
        jobs: Largest number of trials at once; None takes 2.
        address: Address of a running Ray cluster; None starts one here.
        progress: Receives a phase with the trials that are running, and a note on each that has ended.

    Raises:
        ConfigError: The plan's target is wrong, or names a file that does not exist.
        UserError: `jobs` or `address` do not go with the plan.
        ResourceError: The folder cannot be written.
        TlpoError: A trial failed; the results of the others are kept.
    """
    execute = _executor(plan, jobs, address, progress)
    folder = folder or Path("experiments") / plan.name
    with disk_errors(f"the experiment folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_text(dump_document(plan.model_dump(mode="json")), encoding="utf-8")
    trials = [(trial, folder / "runs" / trial.run) for trial in plan.trials()]
    rows = {trial.run: row for trial, path in trials if (row := finished_row(trial, path)) is not None}
    missing = [(trial, path) for trial, path in trials if trial.run not in rows]
    if rows and missing:
        progress.note(f"{len(rows)} of {len(trials)} trials are already done")
    failures = _run_trials(missing, rows, execute, progress)
    in_order = tuple(rows[trial.run] for trial, _ in trials if trial.run in rows)
    write_lines(folder / RESULTS, in_order)
    if failures:
        run, reason = next(iter(failures.items()))
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise TlpoError(
            f"trial {run} failed{more}: {reason}; the other results are in {folder / RESULTS}; "
            f"run the experiment again to repeat what failed"
        )
    analyses = _write_analyses(plan, folder, progress)
    return ExperimentResult(plan=plan, folder=folder, rows=in_order, analyses=analyses)


def _executor(plan: Plan, jobs: int | None, address: str | None, progress: ProgressListener) -> TrialExecutor:
    """Return how the plan's trials are run: several at once in Ray, or, with a target, each on the complete machine.

    Raises:
        ConfigError: The target is wrong, or names a file that does not exist.
        UserError: `jobs` or `address` do not go with the plan.
    """
    target = plan.target
    if target is None:
        return partial(_run_in_ray, jobs or DEFAULT_JOBS, plan.deadline_s, ClusterConfig(address=address), progress)
    if address is not None or (jobs or 1) > 1:
        raise UserError(
            f"{plan.name} has a target, {target.preset}: each of its trials takes the complete machine, so --jobs and "
            f"--address do not go with it; set the cluster of its runs with target.settings"
        )
    from tlpo_ray.experiment.full_size import check_target

    check_target(target)
    return partial(_run_in_turn, target, plan.deadline_s)


def _run_in_ray(
    jobs: int,
    deadline_s: float,
    cluster: ClusterConfig,
    progress: ProgressListener,
    trials: TrialFolders,
    on_start: OnStart,
) -> Iterator[TrialOutcome]:
    with progress.phase(f"Ray, {min(jobs, len(trials))} trials at once"):
        from tlpo_ray.experiment.ray_shell import run_trials  # importing Ray takes seconds
    yield from run_trials(trials, jobs, deadline_s, cluster, on_start)


def _run_in_turn(target: Target, deadline_s: float, trials: TrialFolders, on_start: OnStart) -> Iterator[TrialOutcome]:
    from tlpo_ray.experiment.full_size import run_commands

    for trial, folder in trials:
        on_start(trial)
        try:
            yield trial, run_commands(trial, target, folder.absolute(), deadline_s)
        except TlpoError as error:
            yield trial, str(error)


def _run_trials(
    trials: TrialFolders, rows: dict[str, ResultRow], execute: TrialExecutor, progress: ProgressListener
) -> dict[str, str]:
    """Run trials and add their rows to `rows`; return the reason of each that failed, by the name of its folder."""
    failures: dict[str, str] = {}
    if not trials:
        return failures
    running: list[str] = []
    ended = 0
    with progress.phase(PHASE) as update:

        def show() -> None:
            update(f"{PHASE} {ended} of {len(trials)} ({', '.join(running)})", ended / len(trials))

        def on_start(trial: Trial) -> None:
            running.append(trial.run)
            show()

        for trial, outcome in execute(trials, on_start):
            running.remove(trial.run)
            ended += 1
            show()
            if isinstance(outcome, str):
                failures[trial.run] = outcome
                progress.note(f"{FAILED} {trial.run}: {outcome}")
            else:
                rows[trial.run] = outcome
                progress.note(f"{SUCCEEDED} {_summary(outcome)}")
    return failures


def _summary(row: ResultRow) -> str:
    metrics = row["metrics"]
    seconds = f" · {metrics['seconds']:.0f} s" if "seconds" in metrics else ""
    rates = [f"{heading} {metrics[name]:.3f}" for name, heading in SUMMARY.items() if name in metrics]
    return f"{row['run']}: {' · '.join(rates)}{seconds}"


def _write_analyses(plan: Plan, folder: Path, progress: ProgressListener) -> tuple[Path, ...]:
    """Write the plan's analyses of the first seed's `tlpo`; one that is newer than that run is kept."""
    run = folder / "runs" / f"tlpo-{plan.seeds[0]}"
    files = tuple(folder / ANALYSES[analysis] for analysis in plan.analyses)
    for analysis, file in zip(plan.analyses, files, strict=True):
        if file.exists() and file.stat().st_mtime > (run / "trial.json").stat().st_mtime:
            continue
        with progress.phase(f"analysis of {run.name}: {analysis}"):
            write_json(file, _analyse(analysis, run, plan.seeds[0]))
    return files


def _analyse(analysis: AnalysisName, run: Path, seed: int) -> dict[str, object]:
    from tlpo_ray.evaluation.generation import model_for_sampling
    from tlpo_ray.experiment.analyses import advantage_analysis, shift_analysis
    from tlpo_ray.experiment.measure import MAX_NEW_TOKENS
    from tlpo_ray.flow.records import read_experiences
    from tlpo_ray.quickstart.world import wide_world

    before = load_config(str(run / "config.yaml")).model
    if analysis == "advantage":
        return advantage_analysis(read_experiences(run / "experiences"), before)
    return shift_analysis(before, model_for_sampling(str(run / "model"), MAX_NEW_TOKENS), wide_world(), seed)
