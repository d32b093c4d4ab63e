"""Turns a folder into its report: one self-contained page, figures as PNG and SVG, tables in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.cluster.post_mortem import clock
from tlpo_ray.files import atomic_write, disk_errors
from tlpo_ray.report.experiment_page import experiment_context, experiment_tables
from tlpo_ray.report.run_page import percent, run_context, run_tables
from tlpo_ray.report.source import ExperimentSource, read_source

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Files of a report."""

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    """PNG files; each has an SVG of the same name beside it."""


def write_report(source_folder: Path, folder: Path) -> Report:
    """Write `report.html`, `figures/` and `tables/` into `folder`.

    Args:
        source_folder: Folder of a run or an experiment.
        folder: Folder of the report.

    Raises:
        UserError: There is nothing to report in `source_folder`, or a file in it is damaged.
        ResourceError: `folder` cannot be written.
    """
    source = read_source(source_folder)
    figures, tables = folder / "figures", folder / "tables"
    with disk_errors(f"the report to {folder}"):
        figures.mkdir(parents=True, exist_ok=True)
        if isinstance(source, ExperimentSource):
            context, template = experiment_context(source, figures), "experiment.html"
            texts = experiment_tables(source)
        else:
            context, template, texts = run_context(source, figures), "run.html", run_tables(source)
        page, files = folder / "report.html", tuple(tables / f"{name}.md" for name in texts)
        with atomic_write(page) as partial:
            partial.write_text(_render(template, context), encoding="utf-8")
        tables.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, texts.values(), strict=True):
            file.write_text(text, encoding="utf-8")
    return Report(page=page, tables=files, figures=tuple(figures / f"{name}.png" for name in context["drawn"]))


def _render(template: str, context: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = percent
    environment.filters["clock"] = clock
    return environment.get_template(template).render(context)
