"""`tlpo report` on the terminal."""

from __future__ import annotations

from pathlib import Path

from tlpo_ray.commands.display import console, step
from tlpo_ray.report.page import write_report


def report_command(folder: Path, output: Path | None) -> None:
    """Write the report of a run or an experiment and print where it is.

    Raises:
        UserError: There is nothing to report in the folder, or a file in it is damaged.
        ResourceError: The report cannot be written.
    """
    with step(f"report of {folder}"):
        report = write_report(folder, output or folder / "report")
    console.print(f"open     {report.page}", soft_wrap=True)
    for table in report.tables:
        console.print(f"table    {table}", soft_wrap=True)
    console.print(f"figures  {report.page.parent / 'figures'} ({len(report.figures)} as PNG and SVG)", soft_wrap=True)
