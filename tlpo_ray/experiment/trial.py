"""One trial in the toy world, from the toy model to a row of results. It runs in a process of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from tlpo_ray.config.baseline import BaselineConfig, load_baseline
from tlpo_ray.config.decoding import DecodingConfig
from tlpo_ray.config.load import load_config
from tlpo_ray.evaluation.generation import model_for_sampling
from tlpo_ray.evaluation.keeping import sampled_in
from tlpo_ray.experiment.measure import MAX_NEW_TOKENS, measure_model, sample_answers
from tlpo_ray.experiment.plan import PRESET, Axis, Trial, WorldName
from tlpo_ray.files import read_json, read_json_lines, write_json, write_lines
from tlpo_ray.quickstart.alternatives import alternatives_world
from tlpo_ray.quickstart.answers import ANSWERS, answer_rows
from tlpo_ray.quickstart.settings import LOCAL
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_model import ToyRecipe
from tlpo_ray.quickstart.world import World, wide_world

RESULT, SAMPLED = "trial.json", "sampled.json"
"""Files of a trial's folder: its row, and what an attempt leaves that could not judge its answers."""
WORLDS: dict[WorldName, Callable[[], World]] = {"wide": wide_world, "alternatives": alternatives_world}
"""Toy worlds of plans by name."""
WRITER = ToyRecipe(epochs=12, confused_share=0.0)
"""Recipe of the model that writes reference answers."""
WRITER_SEED = 1000
"""Added to a trial's seed: the writer must not be the model that is trained."""


class ResultRow(TypedDict):
    """Result of one trial: a line of `results.jsonl`."""

    experiment: str
    run: str
    """Name of the trial's folder."""
    variant: str
    label: str
    method: str
    """Training method; that of decoding for a model that is not trained and not sampled as it is."""
    seed: int
    settings: list[str]
    axes: dict[str, Axis]
    key: str
    """Digest of everything that affects the result (`Trial.key`)."""
    metrics: dict[str, float]
    curve: list[dict[str, float]]
    """RPR, reward and length over training, one point per update."""


def run_trial(trial: Trial, folder: Path) -> ResultRow:
    """Train and evaluate, and return the row, which is also written to `trial.json` in `folder`, last of all.

    An attempt that had sampled its answers is continued from them. Whatever another unfinished attempt has left in the
    folder is removed first.

    Args:
        trial: The trial, of a plan without a target.
        folder: Folder of the trial.

    Raises:
        TlpoError: Training or evaluation failed.
    """
    make_world = WORLDS[trial.world]
    world, before = make_world(), cached_toy_model(trial.seed, _ignore_progress, world=make_world)
    model = before if trial.method == "none" else folder / "model"
    sampled = _sampled(trial, folder) or _train_and_sample(trial, before, model, world, folder)
    when: Literal["before", "after"] = "before" if trial.method == "none" else "after"
    with sampled_in(folder / SAMPLED, "the same command continues from them"):
        metrics = measure_model(model, before, world, sampled["answers"])
        wanted = {question.id for question in world.questions if question.name_language}
        write_lines(folder / ANSWERS, answer_rows(when, world.questions, sampled["answers"], wanted=wanted))
    metrics |= sampled.get("costs", {})
    if trial.method != "none":
        metrics["seconds"] = sampled["seconds"]
    row = result_row(trial, metrics, folder)
    write_json(folder / RESULT, row)
    (folder / SAMPLED).unlink()
    return row


def _sampled(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """Return what an earlier attempt with these settings has left; None if its answers had not been sampled."""
    with suppress(OSError, ValueError):
        sampled = read_json(folder / SAMPLED)
        if trial.has_key(sampled.get("key")):
            return sampled
    return None


def _train_and_sample(trial: Trial, before: Path, model: Path, world: World, folder: Path) -> dict[str, Any]:
    """Train, sample answers to all questions, and keep them until they are judged."""
    if folder.exists():
        shutil.rmtree(folder)
    began = time.monotonic()
    if trial.method != "none":
        _train(trial, before, world, folder)
    seconds = time.monotonic() - began
    config = model_for_sampling(str(model), MAX_NEW_TOKENS)
    answers, costs = sample_answers(config, world.questions, trial.samples, trial.seed, trial.decoding)
    folder.mkdir(parents=True, exist_ok=True)
    sampled = {"key": trial.key, "seconds": seconds, "answers": answers, "costs": costs}
    write_json(folder / SAMPLED, sampled)
    return sampled


def shown_method(trial: Trial) -> str:
    """Return a trial's training method, or that of its decoding if it trains nothing; "none" for the model as it is."""
    if trial.method == "none" and trial.decoding != "plain":
        return DecodingConfig.parse(trial.decoding).method
    return trial.method


def result_row(trial: Trial, metrics: dict[str, float], run: Path) -> ResultRow:
    """Return the row of a trial; `run` is the folder of its training, with its result and the metrics over time."""
    with suppress(OSError, ValueError, KeyError):  # the model as it is has none
        metrics = metrics | {"tokens": read_json(run / "result.json")["tokens_generated"]}
    return {
        "experiment": trial.experiment, "run": trial.run, "variant": trial.variant, "label": trial.label,
        "method": shown_method(trial), "seed": trial.seed, "settings": list(trial.settings), "axes": trial.axes,
        "key": trial.key, "metrics": metrics, "curve": list(_curve(run / "metrics.jsonl")),
    }  # fmt: skip


def finished_row(trial: Trial, folder: Path) -> ResultRow | None:
    """Return the row of a trial that has already been run with these settings; None if it has to be run."""
    with suppress(OSError, ValueError):
        row = read_json(folder / RESULT)
        if trial.has_key(row.get("key")):
            # Labels and axes are for people and may change without a new run.
            current = {"label": trial.label, "axes": trial.axes, "key": trial.key}
            return cast(ResultRow, row | current)
    return None


def _train(trial: Trial, before: Path, world: World, folder: Path) -> None:
    """Train as the trial's method does; the trained model is then in `model` of the folder."""
    prompts = folder.with_name(f"{folder.name}.prompts.jsonl")
    prompts.parent.mkdir(parents=True, exist_ok=True)
    overrides = [f"model.path={before}", f"data.prompts={prompts}", f"folder={folder}", f"seed={trial.seed}"]
    if trial.method == "tlpo":
        from tlpo_ray.evaluation.probe import write_probe
        from tlpo_ray.run.training import run_training

        config = load_config(PRESET, [*LOCAL, *overrides, *trial.settings])
        world.write_prompts(prompts, trial.rounds, trial.seed)
        run_training(config)
        write_probe(folder, config.model)
    else:
        from tlpo_ray.baselines.training import train_baseline

        baseline = load_baseline(f"{trial.method}-toy", PRESET, [*overrides, *trial.settings])
        learns_references = isinstance(baseline, BaselineConfig) and baseline.answers.reference_field is not None
        references = reference_answers(world, trial) if learns_references else None
        world.write_prompts(prompts, trial.rounds, trial.seed, references)
        train_baseline(baseline)


def reference_answers(world: World, trial: Trial) -> dict[str, list[str]]:
    """Return one answer per round to every asked question, by another model that never mixes languages.

    It is another toy model, of another seed and with less training, which knows the answers to seven of eight asked
    questions. It stands for the other models that wrote the training answers of the paper's SFT.

    Args:
        world: World with the questions.
        trial: Trial that trains on the answers.

    Returns:
        Question id → answers.
    """
    writer = cached_toy_model(trial.seed + WRITER_SEED, _ignore_progress, recipe=WRITER, world=WORLDS[trial.world])
    asked = [question for question in world.questions if question.group == "asked"]
    model = model_for_sampling(str(writer), MAX_NEW_TOKENS)
    answers, _ = sample_answers(model, asked, trial.rounds, trial.seed)
    return {
        question.id: answers[number * trial.rounds : (number + 1) * trial.rounds]
        for number, question in enumerate(asked)
    }


def _ignore_progress(share: float, loss: float) -> None: ...


def _curve(file: Path) -> Iterator[dict[str, float]]:
    """Yield RPR, reward and length over training, under the same names for every method."""
    if not file.exists():
        return
    for _, step in read_json_lines(file):
        point = {name: value for name, value in _curve_point(step).items() if value is not None}
        if "share" in point and "reward" in point:
            yield point | {"rpr": (1 + point["reward"]) / 2}


def _curve_point(step: Mapping[str, Any]) -> dict[str, float | None]:
    """Return one step's values: GRPO logs `reward` and `length`, TLPO logs `rpr_recent` and `clean_length`."""
    # A reward is +1 or -1, so the mean reward of answers is 2 · RPR - 1.
    reward = step.get("reward", 2 * step["rpr_recent"] - 1 if "rpr_recent" in step else None)
    return {
        "share": step.get("progress", step.get("share")),
        "reward": reward,
        "length": step.get("clean_length", step.get("length")),
    }
