"""Functions that the task files in this folder refer to: our suites as datasets, our scorers as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.keeping import judging
from tlpo_ray.evaluation.suites import SUITES
from tlpo_ray.evaluation.suites.suite import read_documents

SHOWN = 60
"""Characters of a prompt that messages show: lm-eval does not pass the number of its document."""


def documents(
    suite: str, language: str, source: str | None = None, skip_bad: bool = False, **_others: object
) -> dict[str, Any]:
    """Return the split `test` of a suite in a language: the records' own fields, `prompt` and `language`.

    Args:
        suite: Name of the suite.
        language: Target language.
        source: File, folder or hub name; from lm-eval's `--metadata '{"source": "…"}'`.
        skip_bad: Leave out records that cannot be read instead of raising.
        _others: Other metadata, which lm-eval passes to every task.

    Raises:
        UserError: The suite cannot be read, or its answers cannot be scored because a library is missing.
    """
    import datasets

    missing = SUITES[suite].missing()
    if missing:
        raise UserError(f"{suite} cannot be scored: {missing}")
    records = read_documents(SUITES[suite], source, language, skip_bad=skip_bad)
    return {"test": datasets.Dataset.from_list([{**record, "language": language} for record in records])}


def right_choice(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return MMMLU's metric for one answer."""
    return {"acc": _right("mmmlu", doc, results)}


def instructions_followed(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return MIF's metric for one answer."""
    return {"prompt_level_strict_acc": _right("mif", doc, results)}


def right_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return GSM8K-cross's metric for one answer."""
    return {"exact_match": _right("gsm8k-cross", doc, results)}


def _right(suite: str, doc: Mapping[str, Any], results: Sequence[str]) -> float:
    correct = SUITES[suite].correct
    assert correct is not None, "only suites with right answers have a task"
    with judging(f"the answer to {str(doc['prompt'])[:SHOWN]!r} of {suite} in {doc['language']}"):
        return float(correct(results[0], SUITES[suite].reference(doc), doc["language"]))
