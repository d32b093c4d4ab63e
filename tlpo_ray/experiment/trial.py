"""One trial, from the toy model to a line of results. Runs in a process of its own."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tlpo_ray.commands.quickstart import LOCAL
from tlpo_ray.config.load import load_config
from tlpo_ray.evaluation.probe import write_probe
from tlpo_ray.evaluation.sampling import asked_model
from tlpo_ray.experiment.measure import SAMPLING, answers_of, measured
from tlpo_ray.experiment.plan import PRESET, Trial
from tlpo_ray.files import write_json, write_lines
from tlpo_ray.quickstart.answers import ANSWERS, answer_rows
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_model import ToyRecipe
from tlpo_ray.quickstart.world import World, wide_world
from tlpo_ray.run.training import run_training

RESULT = "trial.json"
WRITER = ToyRecipe(rounds=12, wrong_share=0.0)
"""Of the model that writes reference answers."""
Row = dict[str, Any]


def run_trial(trial: Trial, folder: Path) -> Row:
    """Train and evaluate; the row is also `trial.json` in `folder`, written last.

    Whatever an unfinished try left in the folder is removed first.
    """
    if folder.exists():
        shutil.rmtree(folder)
    world = wide_world()
    before = cached_toy_model(trial.seed, lambda share, loss: None, world=wide_world)
    began = time.monotonic()
    model = before if trial.method == "none" else _trained(trial, before, world, folder)
    seconds = time.monotonic() - began
    metrics, answers = measured(model, before, world, trial.samples, trial.seed)
    folder.mkdir(parents=True, exist_ok=True)
    when: Literal["before", "after"] = "before" if trial.method == "none" else "after"
    write_lines(folder / ANSWERS, answer_rows(when, world.questions, answers))
    if trial.method != "none":
        metrics["seconds"] = seconds
    row = row_of(trial, metrics, folder)
    write_json(folder / RESULT, row)
    return row


def row_of(trial: Trial, metrics: dict[str, float], run: Path) -> Row:
    """A line of results; `run` is the folder of the training, for its curve."""
    return {
        "experiment": trial.experiment, "run": trial.run, "variant": trial.variant, "label": trial.label,
        "method": trial.method, "seed": trial.seed, "settings": list(trial.settings), "axes": trial.axes,
        "key": trial.key, "metrics": metrics, "curve": list(_curve(run / "metrics.jsonl")),
    }  # fmt: skip


def done(trial: Trial, folder: Path) -> Row | None:
    """The row of a trial that has been run already with these settings, or None."""
    try:
        row: Row = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # Names for people may change without a new run.
    return row | {"label": trial.label, "axes": trial.axes} if row.get("key") == trial.key else None


def _trained(trial: Trial, before: Path, world: World, folder: Path) -> Path:
    """The folder of the trained model."""
    prompts = folder.with_name(f"{folder.name}.prompts.jsonl")
    prompts.parent.mkdir(parents=True, exist_ok=True)
    given = [f"model.path={before}", f"data.prompts={prompts}", f"folder={folder}", f"seed={trial.seed}"]
    if trial.method == "tlpo":
        config = load_config(PRESET, [*LOCAL, *given, *trial.settings])
        world.write_prompts(prompts, trial.rounds, trial.seed)
        run_training(config)
        write_probe(folder, config.model)
    else:
        from tlpo_ray.commands.baseline import run_baseline
        from tlpo_ray.config.baseline import load_baseline

        baseline = load_baseline(f"{trial.method}-toy", PRESET, [*given, *trial.settings])
        references = None if baseline.answers.reference_field is None else reference_answers(world, trial)
        world.write_prompts(prompts, trial.rounds, trial.seed, references)
        run_baseline(baseline)
    return folder / "model"


def reference_answers(world: World, trial: Trial) -> dict[str, list[str]]:
    """To every asked question an answer a round, by a writer who never slips and is not always right.

    The writer is another toy model, of another seed and with less training: to seven of eight asked questions it knows
    the answer. It stands for the answers of other models that the paper's SFT learns.
    """
    writer = cached_toy_model(trial.seed + 1000, lambda share, loss: None, recipe=WRITER, world=wide_world)
    asked = [question for question in world.questions if question.group == "asked"]
    answers = answers_of(asked_model(str(writer), SAMPLING.max_new_tokens), asked, trial.rounds, trial.seed)
    return {
        question.id: answers[number * trial.rounds : (number + 1) * trial.rounds]
        for number, question in enumerate(asked)
    }


def _curve(file: Path) -> Iterator[dict[str, float]]:
    """RPR, reward and length over training, in the terms of whichever method wrote the metrics."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        share = step.get("progress", step.get("share"))
        reward = step.get("reward", 2 * step["rpr_recent"] - 1 if "rpr_recent" in step else None)
        point = {"share": share, "reward": reward, "length": step.get("clean_length", step.get("length"))}
        if share is not None and reward is not None:
            yield {**{name: value for name, value in point.items() if value is not None}, "rpr": (1 + reward) / 2}
