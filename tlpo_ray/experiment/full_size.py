"""Trials of a plan with a target: the same commands that a person would type, one after another.

Every command is a process of its own, so that it has the complete machine; its output is in the trial's `log.txt`. A
command that has finished is not run again, so an experiment of days can be stopped and resumed.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import copy2, copytree, rmtree
from typing import Any

from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.readers import is_hub_name
from tlpo_ray.errors import ConfigError, DeadlineError, TlpoError
from tlpo_ray.evaluation.harness import task_names
from tlpo_ray.evaluation.judge import ANSWERS
from tlpo_ray.evaluation.keeping import SAMPLED
from tlpo_ray.evaluation.suites import SUITES, wanted
from tlpo_ray.experiment.plan import Target, Trial
from tlpo_ray.experiment.trial import RESULT, ResultRow, result_row
from tlpo_ray.files import read_json, write_json

STEPS, LOG = "steps.json", "log.txt"
TRAINED = "train"
"""Name of the training step, and of the folder of its run."""
ACCURACY, PERPLEXITY = "accuracy", "perplexity"
WANTED = wanted.SUITE.score_name
"""Metric of the suite whose prompts ask for foreign text: it has no RPR and no WPR."""
Commands = dict[str, list[str]]
"""Arguments of `tlpo` by step."""


def check_target(target: Target) -> None:
    """Check what all trials of a plan share, before days are spent on the first of them.

    Raises:
        ConfigError: The preset or a setting is wrong, or a suite or a file of the target does not exist.
    """
    _config(target)
    if unknown := sorted(target.suites.keys() - SUITES.keys()):
        raise ConfigError(f"target.suites: {unknown[0]}: expected one of {', '.join(SUITES)}")
    sources = {f"suites.{suite}": source for suite, source in target.suites.items()}
    sources |= {"perplexity": target.perplexity, "accuracy_source": target.accuracy_source}
    for key, source in sources.items():
        if source is not None and not Path(source).exists() and not is_hub_name(source):
            raise ConfigError(f"target.{key}: {source}: no such file or folder")


def trial_commands(trial: Trial, target: Target, folder: Path) -> Commands:
    """Return the commands of a trial in their order: training, one evaluation per suite, the accuracy tasks.

    Args:
        trial: The trial.
        target: The plan's target.
        folder: Folder of the trial; each step has a folder in it.

    Raises:
        ConfigError: The target's preset or a setting is wrong.
    """
    config = _config(target)
    overrides = [f"folder={folder / TRAINED}", f"seed={trial.seed}", *target.settings, *trial.settings]
    commands: Commands = {}
    match trial.method:
        case "none":
            model, like = config.model.path, ["--like", target.preset]
        case "tlpo":
            commands[TRAINED] = ["train", target.preset, *overrides]
            model, like = str(folder / TRAINED / "model"), []
        case method:
            commands[TRAINED] = ["baseline", method, target.preset, *overrides]
            model, like = str(folder / TRAINED / "model"), []
    languages = ["--language", ",".join(_languages(config))]
    drawn = ["--seed", str(trial.seed), *_option("--limit", target.limit)]
    options = ["--engine", target.engine, *like, *_option("--max-new-tokens", target.max_new_tokens)]
    judging = ["--english", config.detector.english, *_option("--temperature", target.temperature)]
    judging += [] if trial.decoding == "plain" else ["--decoding", trial.decoding]
    for suite, source in target.suites.items():
        selection = ["--suite", suite, *_option("--source", source)]
        commands[suite] = ["evaluate", model, *selection, *languages, *drawn, *options, *judging]
    if trial.decoding == "plain":  # the others would measure once more what the weights are
        if target.accuracy:
            selection = ["--accuracy", target.accuracy, *_option("--source", target.accuracy_source)]
            commands[ACCURACY] = ["evaluate", model, *selection, *languages, *drawn, *options]
        if target.perplexity:
            commands[PERPLEXITY] = ["evaluate", model, "--perplexity", target.perplexity, *drawn]
    return {
        step: arguments if step == TRAINED else [*arguments, "--output", str(folder / step)]
        for step, arguments in commands.items()
    }


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def _config(target: Target) -> RunConfig:
    return load_config(target.preset, target.settings)


def _languages(config: RunConfig) -> Sequence[str]:
    return config.data.languages or tuple(filter(None, [config.data.language]))


def run_commands(trial: Trial, target: Target, folder: Path, deadline_s: float) -> ResultRow:
    """Run the commands of a trial that have not finished yet; write its row to `trial.json` in `folder`, last of all.

    Args:
        trial: The trial.
        target: The plan's target.
        folder: Folder of the trial.
        deadline_s: Deadline of one command, in seconds.

    Raises:
        TlpoError: A command failed.
        DeadlineError: A command took longer than `deadline_s`.
    """
    seconds = _finished_steps(trial, folder)
    folder.mkdir(parents=True, exist_ok=True)

    def record() -> None:
        write_json(folder / STEPS, {"key": trial.key, "training": trial.training_key, "seconds": seconds})

    record()  # what a failed step leaves is this trial's
    for step, arguments in trial_commands(trial, target, folder).items():
        if step in seconds and _left_behind(folder, step).exists():
            continue
        remaining = _arguments(step, arguments, folder)
        if step == TRAINED and (trained := _same_training(trial, folder)) is not None:
            seconds[step] = trained
        else:
            if step == TRAINED:
                _forget_evaluations(seconds, folder)
            seconds[step] = _run(remaining, folder / LOG, deadline_s)
        record()
    metrics = dict(_metrics(target, folder))
    if TRAINED in seconds:
        metrics["seconds"] = seconds[TRAINED]
    row = result_row(trial, metrics, folder / TRAINED)
    write_json(folder / RESULT, row)
    return row


def _left_behind(folder: Path, step: str) -> Path:
    """Return what a finished step leaves, and the steps behind it need: somebody may have removed it since."""
    return folder / step / ("model" if step == TRAINED else "result.json")


def _forget_evaluations(seconds: dict[str, float], folder: Path) -> None:
    """Remove what other weights than those that are to be trained now have reached."""
    for step in seconds.keys() - {TRAINED}:
        rmtree(folder / step, ignore_errors=True)
        (folder / f"{step}.{ANSWERS}").unlink(missing_ok=True)
    seconds.clear()


def _arguments(step: str, arguments: Sequence[str], folder: Path) -> Sequence[str]:
    """Remove what an attempt at a step has left, and return the arguments of the command that is to run.

    Answers that the attempt has sampled and could not judge are moved beside the step's folder; suites are then judged
    from there instead of being sampled again.
    """
    output = folder / step
    answers, logs = folder / f"{step}.{ANSWERS}", folder / f"{step}.{SAMPLED}"
    for left, kept in ((output / ANSWERS, answers), (output / SAMPLED, logs)):
        if left.exists():
            rmtree(kept, ignore_errors=True)
            left.replace(kept)
    rmtree(output, ignore_errors=True)
    if step != TRAINED and answers.exists():
        return ["evaluate", "--answers", str(answers), "--output", str(output)]
    return arguments


def _same_training(trial: Trial, folder: Path) -> float | None:
    """Give a trial the run of another one that has trained the same; return its wall seconds, or None without any.

    Files are linked, not copied: a model of full size takes no room twice, and survives the removal of one folder.
    """
    for steps in sorted(folder.parent.glob(f"*/{STEPS}")):
        with suppress(OSError, ValueError, KeyError):
            recorded = read_json(steps)
            if steps.parent == folder or recorded["training"] != trial.training_key:
                continue
            if TRAINED in recorded["seconds"] and _left_behind(steps.parent, TRAINED).exists():
                _link_folder(steps.parent / TRAINED, folder / TRAINED)
                with (folder / LOG).open("a", encoding="utf-8") as file:
                    file.write(f"trained the same: {steps.parent.name}\n")
                return float(recorded["seconds"][TRAINED])
    return None


def _link_folder(source: Path, target: Path) -> None:
    """Link all files of a folder; of a copy that fails nothing is left, so that the step can run there.

    Raises:
        OSError: The files cannot be linked or copied.
    """
    rmtree(target, ignore_errors=True)
    try:
        copytree(source, target, copy_function=_link_or_copy)
    except OSError:
        rmtree(target, ignore_errors=True)
        raise


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        copy2(source, target)


def _finished_steps(trial: Trial, folder: Path) -> dict[str, float]:
    """Return the wall seconds of the steps that have finished; remove what another trial has left in the folder."""
    with suppress(OSError, ValueError):
        steps = read_json(folder / STEPS)
        if trial.has_key(steps.get("key")):
            return dict(steps["seconds"])
    rmtree(folder, ignore_errors=True)
    return {}


def _run(arguments: Sequence[str], log: Path, deadline_s: float) -> float:
    """Run one `tlpo` command with its output appended to the log; return its wall seconds."""
    command_line = f"tlpo {shlex.join(arguments)}"
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {command_line}\n")
        file.flush()
        output_start = file.tell()
        command = [sys.executable, "-m", "tlpo_ray", *arguments]
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
            try:
                code = process.wait(deadline_s)
            except subprocess.TimeoutExpired as error:
                process.terminate()
                raise DeadlineError(f"`{command_line}` did not finish within {deadline_s:.0f} s; see {log}") from error
            except BaseException:
                process.terminate()
                process.wait()  # it ends its own processes first
                raise
    if code:
        output = log.read_bytes()[output_start:].decode(errors="replace").strip().splitlines() or ["no output"]
        # Our own error line is more useful than whatever a library printed after it.
        errors = [line for line in output if line.startswith("tlpo: ")]
        raise TlpoError(f"`{command_line}` failed with exit code {code} ({[*output, *errors][-1]}); see {log}")
    return time.monotonic() - began


def _metrics(target: Target, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the means over suites and over tasks, each followed by the values of the single ones."""
    results = {suite: _result(folder / suite) for suite in target.suites}
    for rate in ("rpr", "wpr"):
        rates = {suite: result[rate] for suite, result in results.items() if result.get(rate) is not None}
        if rates:
            yield rate, statistics.fmean(rates.values())
        yield from ((f"{rate}_{suite}", value) for suite, value in rates.items())
    yield from ((WANTED, result[WANTED]) for result in results.values() if result.get(WANTED) is not None)
    sampled = [result for result in results.values() if "tokens_sampled" in result]
    if tokens := sum(result["tokens"] for result in sampled):
        yield "ms_per_token", 1000 * sum(result["seconds"] for result in sampled) / tokens
        if any(result["decoding"] != "plain" for result in sampled):
            yield "interventions", 1000 * sum(result["interventions"] for result in sampled) / tokens
    if (perplexity := _result_if_any(folder / PERPLEXITY)) is not None:
        yield PERPLEXITY, perplexity[PERPLEXITY]
        yield from ((f"{PERPLEXITY}_{row['language']}", row[PERPLEXITY]) for row in perplexity["by_language"])
    if (scored := _result_if_any(folder / ACCURACY)) is not None:
        tasks = task_names(target.accuracy.split(","), _languages(_config(target)))
        task_scores = scored["accuracy"]
        main_scores = {task: _main_score(task_scores.get(task, {})) for task in tasks}
        known = {task: score for task, score in main_scores.items() if score is not None}
        if known:
            yield ACCURACY, statistics.fmean(known.values())
        yield from ((f"{ACCURACY}_{task}", score) for task, score in known.items())
    lengths = [result["mean_tokens"] for result in results.values() if result["mean_tokens"] is not None]
    if lengths:
        yield "length", statistics.fmean(lengths)


def _result(folder: Path) -> dict[str, Any]:
    return read_json(folder / "result.json")


def _result_if_any(folder: Path) -> dict[str, Any] | None:
    """Return the result of a step that not every trial has."""
    return _result(folder) if folder.exists() else None


def _main_score(scores: Mapping[str, float]) -> float | None:
    """Return a task's score: of several filters or metrics the last, which is the most lenient reading of an answer."""
    values = [value for name, value in scores.items() if "_stderr" not in name]
    return values[-1] if values else None
