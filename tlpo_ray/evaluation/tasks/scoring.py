"""Functions that the task files beside this one name: our suites as datasets, our scorers as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.suites import SUITES
from tlpo_ray.evaluation.suites.suite import read_documents


def documents(
    suite: str, language: str, source: str | None = None, skip_bad: bool = False, **_others: object
) -> dict[str, Any]:
    """Split `test` of a suite in a language: the records' own fields, and `prompt` as `tlpo evaluate` puts it.

    Args:
        source: file, folder or hub name; from lm-eval's `--metadata '{"source": "…"}'`.
        skip_bad: leave out records that cannot be read.

    Raises:
        UserError: the suite cannot be read, or its answers not be scored here.
    """
    import datasets

    missing = SUITES[suite].missing()
    if missing:
        raise UserError(f"{suite} cannot be scored: {missing}")
    return {"test": datasets.Dataset.from_list(read_documents(SUITES[suite], source, language, skip_bad=skip_bad))}


def right_choice(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """MMMLU's metric of one answer."""
    return {"acc": _right("mmmlu", doc, results)}


def instructions_followed(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """MIF's metric of one answer."""
    return {"prompt_level_strict_acc": _right("mif", doc, results)}


def _right(suite: str, doc: Mapping[str, Any], results: Sequence[str]) -> float:
    asked = SUITES[suite]
    assert asked.correct is not None
    return float(asked.correct(results[0], asked.reference(doc)))
