"""Trials of a model of the user's own: the very commands that a person would type, one after another.

Every command is a process of its own, so that it has the whole machine; what it prints is in the trial's `log.txt`. A
command that has ended is not run again.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import DeadlineError, TlpoError
from tlpo_ray.evaluation.harness import named_tasks
from tlpo_ray.experiment.plan import Subject, Trial
from tlpo_ray.experiment.trial import RESULT, Row, row_of
from tlpo_ray.files import write_json

STEPS, LOG = "steps.json", "log.txt"
TRAINED = "train"
"""Step, and folder of its run."""
ACCURACY = "accuracy"
Commands = dict[str, list[str]]
"""By step: what follows `tlpo`."""


def commands(trial: Trial, subject: Subject, folder: Path) -> Commands:
    """What a trial runs: training, an evaluation of every suite, the accuracy tasks.

    Raises:
        ConfigError: the subject's preset or a setting is wrong.
    """
    config = _config(subject)
    given = [f"folder={folder / TRAINED}", f"seed={trial.seed}", *subject.settings, *trial.settings]
    found: Commands = {}
    match trial.method:
        case "none":
            model, like = config.model.path, ["--like", subject.preset]
        case "tlpo":
            found[TRAINED] = ["train", subject.preset, *given]
            model, like = str(folder / TRAINED / "model"), []
        case method:
            found[TRAINED] = ["baseline", method, subject.preset, *given]
            model, like = str(folder / TRAINED / "model"), []
    how = ["--language", ",".join(_languages(config)), "--engine", subject.engine, "--seed", str(trial.seed), *like]
    for option, value in (("--limit", subject.limit), ("--max-new-tokens", subject.max_new_tokens)):
        how += [] if value is None else [option, str(value)]
    for suite, source in subject.suites.items():
        place = [] if source is None else ["--source", source]
        found[suite] = ["evaluate", model, "--suite", suite, *place, *how, "--output", str(folder / suite)]
    if subject.accuracy:
        tasks = ["--accuracy", subject.accuracy]
        place = [] if subject.accuracy_source is None else ["--source", subject.accuracy_source]
        found[ACCURACY] = ["evaluate", model, *tasks, *place, *how, "--output", str(folder / ACCURACY)]
    return found


def _config(subject: Subject) -> RunConfig:
    return load_config(subject.preset, subject.settings)


def _languages(config: RunConfig) -> Sequence[str]:
    return config.data.languages or tuple(filter(None, [config.data.language]))


def run_commands(trial: Trial, subject: Subject, folder: Path, deadline_s: float) -> Row:
    """Run what of a trial has not ended yet; its row is also `trial.json` in `folder`, written last.

    Raises:
        TlpoError: a command failed.
        DeadlineError: one took longer than `deadline_s`.
    """
    seconds = _ended(trial, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for step, command in commands(trial, subject, folder).items():
        if step not in seconds:
            rmtree(folder / step, ignore_errors=True)
            seconds[step] = _run(command, folder / LOG, deadline_s)
            write_json(folder / STEPS, {"key": trial.key, "seconds": seconds})
    metrics = dict(_metrics(subject, folder))
    if TRAINED in seconds:
        metrics["seconds"] = seconds[TRAINED]
    row = row_of(trial, metrics, folder / TRAINED)
    write_json(folder / RESULT, row)
    return row


def _ended(trial: Trial, folder: Path) -> dict[str, float]:
    """Wall seconds of the steps that have ended; leftovers of another trial are removed."""
    with suppress(OSError, ValueError):
        kept: Mapping[str, Any] = json.loads((folder / STEPS).read_text(encoding="utf-8"))
        if kept.get("key") == trial.key:
            return dict(kept["seconds"])
    rmtree(folder, ignore_errors=True)
    return {}


def _run(command: Sequence[str], log: Path, deadline_s: float) -> float:
    """Wall seconds of one `tlpo` command."""
    typed = f"tlpo {shlex.join(command)}"
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {typed}\n")
        file.flush()
        begins = file.tell()
        started = [sys.executable, "-c", "from tlpo_ray.cli import main; main()", *command]
        try:
            code = subprocess.run(started, stdout=file, stderr=subprocess.STDOUT, timeout=deadline_s).returncode
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"`{typed}` did not end within {deadline_s:.0f} s; see {log}") from error
    if code:
        said = log.read_bytes()[begins:].decode(errors="replace").strip().splitlines() or ["no word"]
        ours = [line for line in said if line.startswith("tlpo: ")]
        raise TlpoError(f"`{typed}` ended with exit code {code} ({[*said, *ours][-1]}); see {log}")
    return time.monotonic() - began


def _metrics(subject: Subject, folder: Path) -> Iterator[tuple[str, float]]:
    """Means over suites and over tasks, then each alone."""
    results = {suite: _result(folder / suite) for suite in subject.suites}
    for rate in ("rpr", "wpr"):
        found = {suite: result[rate] for suite, result in results.items() if result[rate] is not None}
        if found:
            yield rate, statistics.fmean(found.values())
        yield from ((f"{rate}_{suite}", value) for suite, value in found.items())
    if subject.accuracy:
        asked = named_tasks(subject.accuracy, _languages(_config(subject)))
        found_scores = _result(folder / ACCURACY)["accuracy"]
        tasks = {task: _main_score(found_scores.get(task, {})) for task in asked}
        known = {task: score for task, score in tasks.items() if score is not None}
        if known:
            yield ACCURACY, statistics.fmean(known.values())
        yield from ((f"{ACCURACY}_{task}", score) for task, score in known.items())
    lengths = [result["mean_tokens"] for result in results.values() if result["mean_tokens"] is not None]
    if lengths:
        yield "length", statistics.fmean(lengths)


def _result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _main_score(scores: Mapping[str, float]) -> float | None:
    """A task's score; of several filters or metrics the last one, which is the most lenient reading of an answer."""
    values = [value for name, value in scores.items() if "_stderr" not in name]
    return values[-1] if values else None
