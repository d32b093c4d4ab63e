"""The folder that an evaluation leaves: its answers, if it has any, and its result last of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.judge import ANSWERS
from tlpo_ray.files import disk_errors, write_json, write_lines

RESULT = "result.json"


def refuse_used(output: Path) -> None:
    """Check that a folder holds no evaluation, before hours are spent on one.

    Raises:
        UserError: It holds a result or answers.
    """
    if (output / RESULT).exists():
        raise UserError(f"--output {output} already holds a {RESULT}: choose another folder, or move it away")
    if (output / ANSWERS).exists():
        raise UserError(
            f"--output {output} already holds answers without a result: tlpo evaluate --answers {output} judges them; "
            f"choose another folder, or move {ANSWERS} away"
        )


def write_output(output: Path, result: Mapping[str, object], answers: Iterable[object] | None = None) -> None:
    """Write `result.json`, and the answers before it, so that a folder with a result is complete.

    Args:
        output: Folder, which is made if it does not exist.
        result: Content of `result.json`.
        answers: Lines of `answers.jsonl`; None writes none.

    Raises:
        ResourceError: The folder cannot be written.
    """
    with disk_errors(f"to {output}"):
        output.mkdir(parents=True, exist_ok=True)
        if answers is not None:
            write_lines(output / ANSWERS, answers)
        write_json(output / RESULT, result)
