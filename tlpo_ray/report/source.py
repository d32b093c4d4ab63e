"""What a folder holds that can be reported: a run, or an experiment of many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from tlpo_ray.config.yaml_text import parse_document
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.flow.records import CandidateGroup, read_experiences

Json = dict[str, Any]
CONFIG, RESULT, METRICS, ANSWERS, NEW_LOGP = (
    "config.yaml", "result.json", "metrics.jsonl", "answers.jsonl", "new_logp.json",
)  # fmt: skip
PLAN, RESULTS, ADVANTAGE, SHIFT = "experiment.yaml", "results.jsonl", "advantage.json", "shift.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """One run's folder, as it was left."""

    folder: Path
    config: Json
    config_text: str
    result: Json
    """Empty while the run goes on, or when it did not end."""
    metrics: Sequence[Json]
    groups: Sequence[CandidateGroup]
    answers: Sequence[Json]
    """Answers before and after; see `tlpo quickstart`."""
    new_logp: Mapping[int, Sequence[float]]
    """By number of the group: the trained policy's natural-log probabilities at its candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSource:
    """An experiment's folder."""

    folder: Path
    plan: Json
    rows: Sequence[Json]
    """One a finished trial: variant, label, method, seed, axes, metrics, curve."""
    advantage: Json | None
    """Candidates of one confusion point with their advantages in all forms (Fig. 3)."""
    shift: Json | None
    """Probability of confusing and clean tokens before and after, by rank (Fig. 6)."""
    versions: Mapping[str, str]
    """Of the libraries that the first trained trial ran with; empty where none says so."""


def read_source(folder: Path) -> RunSource | ExperimentSource:
    """What the folder holds.

    Raises:
        UserError: neither a run nor an experiment, or a file in it is damaged.
    """
    try:
        if (folder / PLAN).is_file():
            return _experiment(folder)
        if (folder / CONFIG).is_file():
            return _run(folder)
    except (OSError, ValueError, yaml.YAMLError, pa.ArrowException) as error:
        raise UserError(f"{folder}: a file of it is damaged: {first_line(error)}") from error
    raise UserError(f"{folder}: neither a run ({CONFIG}) nor an experiment ({PLAN}) lies there; give its folder")


def _run(folder: Path) -> RunSource:
    text = (folder / CONFIG).read_text(encoding="utf-8")
    new_logp: Json = _json(folder / NEW_LOGP) or {}
    return RunSource(
        folder=folder,
        config=_mapping(parse_document(text), folder / CONFIG),
        config_text=text,
        result=_json(folder / RESULT) or {},
        metrics=_lines(folder / METRICS),
        groups=read_experiences(folder / "experiences"),
        answers=_lines(folder / ANSWERS),
        new_logp={int(number): row for number, row in new_logp.items()},
    )


def _experiment(folder: Path) -> ExperimentSource:
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


def _versions(runs: Path) -> Json:
    result = next(iter(sorted(runs.glob(f"*/{RESULT}"))), None)
    return (_json(result) or {}).get("stack", {}) if result is not None else {}


def _mapping(value: object, file: Path) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds {type(value).__name__}, expected keys and values")
    return value


def _json(file: Path) -> Json | None:
    return _parsed(file.read_text(encoding="utf-8"), file) if file.is_file() else None


def _lines(file: Path) -> list[Json]:
    if not file.is_file():
        return []
    lines = enumerate(file.read_text(encoding="utf-8").split("\n"), start=1)
    return [_parsed(line, file, number) for number, line in lines if line.strip()]


def _parsed(text: str, file: Path, line: int | None = None) -> Json:
    try:
        return _mapping(json.loads(text), file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file.name}{f' line {line}' if line else ''}: no JSON: {error.msg}") from error
