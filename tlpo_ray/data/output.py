"""Output of `tlpo data`: a JSONL file and, beside it, a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tlpo_ray.errors import UserError
from tlpo_ray.files import disk_errors, write_json, write_lines

Row = dict[str, object]


def free_report_path(output: Path) -> Path:
    """Return the path of the report that belongs to an output file.

    Raises:
        UserError: The name of the output does not end in .jsonl, or one of the two files already exists.
    """
    if output.suffix != ".jsonl":
        raise UserError(f"--output {output}: expected a name that ends in .jsonl")
    report = output.with_suffix(".report.json")
    for file in (output, report):
        if file.exists():
            raise UserError(f"{file} already exists: choose another --output, or move it away")
    return report


def write_output(output: Path, rows: Iterable[Row], report: Path, summary: Mapping[str, object]) -> None:
    """Write rows and report. The report comes first, so an output that exists always has its report.

    Raises:
        ResourceError: One of them cannot be written.
    """
    with disk_errors(f"to {output}"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(report, summary)
        write_lines(output, rows)
