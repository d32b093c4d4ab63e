"""What the page of an experiment shows: one table, a verdict, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.report.experiment_figures import figures, table_of
from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.summary import formatted, markdown_table, shown_columns, summarised, verdict

Json = dict[str, Any]


def experiment_context(source: ExperimentSource, folder: Path) -> Json:
    """Everything that the template needs."""
    variants = summarised(source.rows)
    columns = shown_columns(variants)
    seeds = sorted({seed for variant in variants for seed in variant.seeds})
    return {
        "title": source.plan.get("title", source.folder.name),
        "about": source.plan.get("about", ""),
        "verdict": verdict(variants),
        "columns": columns,
        "rows": [
            {
                "label": variant.label,
                "before": variant.method == "none",
                "cells": [
                    (formatted(variant.cells.get(column.name), column), variant.cells.get(column.name))
                    for column in columns
                ],
            }
            for variant in variants
        ],
        "figures": figures(source, variants, folder),
        "seeds": seeds,
        "trials": len(source.rows),
        "name": source.plan.get("name", source.folder.name),
        "plan_text": dump_document(source.plan),
    }


def experiment_tables(source: ExperimentSource) -> dict[str, str]:
    """Markdown tables by name."""
    variants = summarised(source.rows)
    said = verdict(variants)
    tables = {"comparison": markdown_table(variants) + (f"\n{said}\n" if said else "")}
    beyond = table_of(source.shift)
    return tables | ({"shift": beyond} if beyond else {})
