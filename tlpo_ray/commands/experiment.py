"""`tlpo experiment`: runs what of a plan has not been run yet, several trials at once, and writes the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tlpo_ray.commands.display import console, step
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import ClusterConfig
from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.errors import ResourceError, TlpoError, UserError, first_line
from tlpo_ray.experiment.plan import Plan, Subject, Trial, load_plan
from tlpo_ray.experiment.trial import Row, done
from tlpo_ray.files import write_json, write_lines

RESULTS = "results.jsonl"
JOBS = 2
"""Trials at once where the user does not say."""
BRIEF = {"rpr": "RPR", "accuracy": "accuracy"}
FINDINGS = {"advantage": "advantage.json", "shift": "shift.json"}

Trials = Sequence[tuple[Trial, Path]]
Started = Callable[[Trial], None]
Outcome = tuple[Trial, Row | str]
"""A trial with its row, or with what went wrong."""
Outcomes = Callable[[Trials, Started], Iterator[Outcome]]
"""Runs trials; yields as they end."""


def experiment_command(
    name: str,
    overrides: Sequence[str],
    folder: Path | None,
    jobs: int | None,
    seeds: Sequence[int] | None,
    address: str | None,
) -> None:
    """Run the plan's trials that are not done, then its findings; print where the results and the report are.

    Raises:
        ConfigError: there is no such plan, or it is wrong.
        UserError: `jobs` or `address` do not go with the plan.
        TlpoError: a trial failed; what the others found is kept.
    """  # fmt: skip
    plan = load_plan(name, [*overrides, *([f"seeds={list(seeds)}"] if seeds else [])])
    outcomes = _way(plan, jobs, address)
    folder = folder or Path("experiments") / plan.name
    _write_plan(plan, folder)
    trials = [(trial, folder / "runs" / trial.run) for trial in plan.trials()]
    rows = {trial.run: row for trial, path in trials if (row := done(trial, path)) is not None}
    missing = [(trial, path) for trial, path in trials if trial.run not in rows]
    if rows and missing:
        console.print(f"{len(rows)} of {len(trials)} trials are done already")
    failed = _run(missing, rows, outcomes)
    write_lines(folder / RESULTS, [rows[trial.run] for trial, _ in trials if trial.run in rows])
    if failed:
        run, why = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise TlpoError(f"trial {run} failed{more}: {why}; the other results are in {folder / RESULTS}, run it again")
    _write_findings(plan, folder, dict((trial.run, path) for trial, path in trials))
    _write_report(folder)


def _write_plan(plan: Plan, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.yaml").write_text(dump_document(plan.model_dump(mode="json")), encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write the experiment folder {folder}: {first_line(error)}") from error


def _way(plan: Plan, jobs: int | None, address: str | None) -> Outcomes:
    """How the plan's trials are run: several at once in Ray, or a subject's, each on the whole machine.

    Raises:
        ConfigError: the subject's preset or settings are wrong.
        UserError: `jobs` or `address` do not go with the plan.
    """
    subject = plan.subject
    if subject is None:
        return partial(_in_ray, jobs or JOBS, plan.deadline_s, ClusterConfig(address=address))
    if address is not None or (jobs or 1) > 1:
        raise UserError(
            f"{plan.name} has a subject, {subject.preset}: its trials take a whole machine each, so --jobs and "
            f"--address do not go with it; the runs' own cluster is set with subject.settings"
        )
    load_config(subject.preset, subject.settings)  # what is wrong for every trial is told before the first
    return partial(_in_turn, subject, plan.deadline_s)


def _in_ray(
    jobs: int, deadline_s: float, cluster: ClusterConfig, missing: Trials, started: Started
) -> Iterator[Outcome]:
    with step(f"Ray, {min(jobs, len(missing))} trials at once"):
        from tlpo_ray.experiment.ray_shell import run_trials
    yield from run_trials(missing, jobs, deadline_s, cluster, started)


def _in_turn(subject: Subject, deadline_s: float, missing: Trials, started: Started) -> Iterator[Outcome]:
    from tlpo_ray.experiment.full_size import run_commands

    for trial, folder in missing:
        started(trial)
        try:
            yield trial, run_commands(trial, subject, folder.absolute(), deadline_s)
        except TlpoError as error:
            yield trial, str(error)


def _run(missing: Trials, rows: dict[str, Row], outcomes: Outcomes) -> dict[str, str]:
    """Run trials and add their rows; what failed, with its reason."""
    failed: dict[str, str] = {}
    if not missing:
        return failed
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("trials", total=len(missing))
        running: list[str] = []

        def started(trial: Trial) -> None:
            running.append(trial.run)
            bars.update(task, description=f"trials ({', '.join(running)})")

        for trial, outcome in outcomes(missing, started):
            running.remove(trial.run)
            bars.update(task, advance=1, description=f"trials ({', '.join(running)})")
            if isinstance(outcome, str):
                failed[trial.run] = outcome
                console.print(f"[red]✗[/red] {trial.run}: {outcome}", soft_wrap=True)
            else:
                rows[trial.run] = outcome
                console.print(f"[green]✓[/green] {_in_brief(outcome)}", soft_wrap=True)
    return failed


def _in_brief(row: Row) -> str:
    metrics: dict[str, float] = row["metrics"]
    seconds = f" · {metrics['seconds']:.0f} s" if "seconds" in metrics else ""
    rates = [f"{heading} {metrics[name]:.3f}" for name, heading in BRIEF.items() if name in metrics]
    return f"{row['run']}: {' · '.join(rates)}{seconds}"


def _write_findings(plan: Plan, folder: Path, paths: dict[str, Path]) -> None:
    """What the plan wants to know of the first seed's `tlpo`, unless it is there and no older than that run."""
    path = paths.get(f"tlpo-{plan.seeds[0]}")
    for finding in plan.findings:
        file = folder / FINDINGS[finding]
        assert path is not None, "the plan was checked"
        if file.exists() and file.stat().st_mtime > (path / "trial.json").stat().st_mtime:
            continue
        with step(f"a look into {path.name}: {finding}"):
            write_json(file, _finding(finding, path, plan.seeds[0]))


def _finding(finding: str, run: Path, seed: int) -> dict[str, Any]:
    from tlpo_ray.evaluation.sampling import asked_model
    from tlpo_ray.experiment.findings import advantage_figure, shift_figure
    from tlpo_ray.flow.records import read_experiences
    from tlpo_ray.quickstart.world import wide_world

    before = load_config(str(run / "config.yaml")).model
    if finding == "advantage":
        return advantage_figure(read_experiences(run / "experiences"), before)
    return shift_figure(before, asked_model(str(run / "model"), 64), wide_world(), seed)


def _write_report(folder: Path) -> None:
    from tlpo_ray.commands.report import report_command

    report_command(folder, None)
