"""Reads what the folder of a run, or of an experiment with many runs, holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from tlpo_ray.cluster.post_mortem import PostMortem, post_mortem
from tlpo_ray.config.yaml_text import parse_document
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.files import read_json, read_json_lines
from tlpo_ray.flow.metrics import RENAMED_METRICS
from tlpo_ray.flow.records import CandidateGroup, read_experiences

Json = dict[str, Any]
CONFIG, RESULT, METRICS, ANSWERS, NEW_LOGP = (
    "config.yaml", "result.json", "metrics.jsonl", "answers.jsonl", "new_logp.json",
)  # fmt: skip
PLAN, RESULTS, ADVANTAGE, SHIFT = "experiment.yaml", "results.jsonl", "advantage.json", "shift.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """Content of a run's folder."""

    folder: Path
    config: Json
    config_text: str
    result: Json
    """Content of `result.json`; empty while the run is running, or if it did not end."""
    metrics: Sequence[Json]
    """Metrics per update, under the names of today (`RENAMED_METRICS`)."""
    groups: Sequence[CandidateGroup]
    """Candidate groups that were learned from."""
    answers: Sequence[Json]
    """Answers before and after training; see `tlpo quickstart`."""
    post_mortem: PostMortem
    """What was recorded of its processes and its end."""
    new_logp: Mapping[int, Sequence[float]]
    """Number of a group → natural-log probabilities of the trained policy at its candidates, [N]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSource:
    """Content of an experiment's folder."""

    folder: Path
    plan: Json
    rows: Sequence[Json]
    """One row per finished trial: variant, label, method, seed, axes, metrics, curve."""
    advantage: Json | None
    """Candidates of one confusion point with their advantages in all forms (Fig. 3)."""
    shift: Json | None
    """Probability of confusing and clean tokens before and after training, by rank (Fig. 6)."""
    versions: Mapping[str, str]
    """Versions of the libraries that the first trained trial used; empty if no trial recorded them."""


def read_source(folder: Path) -> RunSource | ExperimentSource:
    """Return the content of a folder.

    Raises:
        UserError: The folder holds neither a run nor an experiment, or a file in it is damaged.
    """
    try:
        if (folder / PLAN).is_file():
            return _read_experiment(folder)
        if (folder / CONFIG).is_file():
            return _read_run(folder)
    except (OSError, ValueError, yaml.YAMLError, pa.ArrowException) as error:
        raise UserError(f"{folder}: a file in it is damaged: {first_line(error)}") from error
    raise UserError(f"{folder} holds neither a run ({CONFIG}) nor an experiment ({PLAN}): give the folder of one")


def _read_run(folder: Path) -> RunSource:
    text = (folder / CONFIG).read_text(encoding="utf-8")
    new_logp: Json = _json(folder / NEW_LOGP) or {}
    return RunSource(
        folder=folder,
        config=_mapping(parse_document(text), folder / CONFIG),
        config_text=text,
        result=_json(folder / RESULT) or {},
        metrics=[_with_current_names(line) for line in _lines(folder / METRICS)],
        groups=read_experiences(folder / "experiences"),
        answers=_lines(folder / ANSWERS),
        post_mortem=post_mortem(folder),
        new_logp={int(number): row for number, row in new_logp.items()},
    )


def _read_experiment(folder: Path) -> ExperimentSource:
    rows = _lines(folder / RESULTS)
    if not rows:
        raise UserError(
            f"{folder}: no trial has ended yet ({RESULTS} is empty or missing); run `tlpo experiment` again"
        )
    return ExperimentSource(
        folder=folder,
        plan=_mapping(parse_document((folder / PLAN).read_text(encoding="utf-8")), folder / PLAN),
        rows=rows,
        advantage=_json(folder / ADVANTAGE),
        shift=_json(folder / SHIFT),
        versions=_versions(folder / "runs"),
    )


def _with_current_names(metrics: Json) -> Json:
    """Return the metrics of one update under the names of today; logs of earlier releases have other names."""
    return {RENAMED_METRICS.get(name, name): value for name, value in metrics.items()}


def _versions(runs: Path) -> Json:
    result = next(iter(sorted(runs.glob(f"*/{RESULT}"))), None)
    return (_json(result) or {}).get("stack", {}) if result is not None else {}


def _mapping(value: object, file: Path) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds {type(value).__name__}, expected keys and values")
    return value


def _json(file: Path) -> Json | None:
    """Return the JSON object in a file, or None if the file does not exist."""
    if not file.is_file():
        return None
    try:
        return read_json(file)
    except ValueError as error:
        raise ValueError(f"{file.name}: {first_line(error)}") from error


def _lines(file: Path) -> list[Json]:
    return [line for _, line in read_json_lines(file)] if file.is_file() else []
