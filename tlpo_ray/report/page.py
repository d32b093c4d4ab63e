"""From a folder to its report: one self-contained page, figures as PNG and SVG, tables in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.errors import ResourceError, first_line
from tlpo_ray.files import replacing
from tlpo_ray.report.experiment_page import experiment_context, experiment_tables
from tlpo_ray.report.run_page import run_context, run_tables
from tlpo_ray.report.source import ExperimentSource, read_source

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a report was written."""

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    """PNG; an SVG of the same name lies beside each."""


def write_report(source_folder: Path, folder: Path) -> Report:
    """Write `report.html`, `figures/` and `tables/` into `folder`.

    Raises:
        UserError: there is nothing to report in `source_folder`, or a file in it is damaged.
        ResourceError: `folder` cannot be written.
    """
    source = read_source(source_folder)
    figures, tables = folder / "figures", folder / "tables"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        if isinstance(source, ExperimentSource):
            context, template = experiment_context(source, figures), "experiment.html"
            texts = experiment_tables(source)
        else:
            context, template, texts = run_context(source, figures), "run.html", run_tables(source)
        page, written = folder / "report.html", tuple(tables / f"{name}.md" for name in texts)
        with replacing(page) as partial:
            partial.write_text(_rendered(template, context), encoding="utf-8")
        tables.mkdir(parents=True, exist_ok=True)
        for file, text in zip(written, texts.values(), strict=True):
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write the report to {folder}: {error.strerror or first_line(error)}") from error
    return Report(page=page, tables=written, figures=tuple(figures / f"{name}.png" for name in context["drawn"]))


def _rendered(template: str, context: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(context)
