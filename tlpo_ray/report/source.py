"""What a folder holds that can be reported: a run, or an experiment of many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tlpo_ray.config.yaml_text import parse_document
from tlpo_ray.flow.errors import UserError, first_line
from tlpo_ray.flow.records import CandidateGroup, from_batch

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
    files = sorted((folder / "experiences").glob("*.parquet"))
    return RunSource(
        folder=folder,
        config=_mapping(parse_document(text), folder / CONFIG),
        config_text=text,
        result=_json(folder / RESULT) or {},
        metrics=_lines(folder / METRICS),
        groups=[group for file in files for group in from_batch(pq.read_table(file))],
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
    )


def _mapping(value: object, file: Path) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds {type(value).__name__}, expected keys and values")
    return value


def _json(file: Path) -> Json | None:
    return _mapping(json.loads(file.read_text(encoding="utf-8")), file) if file.is_file() else None


def _lines(file: Path) -> list[Json]:
    if not file.is_file():
        return []
    return [_mapping(json.loads(line), file) for line in file.read_text(encoding="utf-8").splitlines() if line]
