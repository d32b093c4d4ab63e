"""What the page of an experiment shows: one paragraph, one table, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.report import probed_figures
from tlpo_ray.report.excerpt import whole
from tlpo_ray.report.experiment_figures import FORMS, figures
from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.summary import Column, VariantSummary, formatted, markdown_table, shown_columns, summarised
from tlpo_ray.report.verdict import verdict

Json = dict[str, Any]


def experiment_context(source: ExperimentSource, folder: Path) -> Json:
    """Everything that the template needs."""
    variants = summarised(source.rows)
    columns = shown_columns(variants)
    drawn, advantage = figures(source, variants, folder), _advantage(source.advantage, folder)
    shift = probed_figures.shift(source.shift, folder) if source.shift else None
    probed = [shift, advantage["figure"] if advantage else None]
    return {
        "title": source.plan.get("title", source.folder.name),
        "about": source.plan.get("about", ""),
        "verdict": verdict(variants),
        "columns": columns,
        "rows": [
            {
                "label": variant.label,
                "before": variant.method == "none",
                "cells": [_cell(variant, column) for column in columns],
            }
            for variant in variants
        ],
        "figures": drawn,
        "advantage": advantage,
        "shift": shift,
        "drawn": [one.name for one in (*drawn, *probed) if one is not None],
        "seeds": sorted({seed for variant in variants for seed in variant.seeds}),
        "trials": len(source.rows),
        "name": source.plan.get("name", source.folder.name),
        "plan_text": dump_document(source.plan),
        "versions": source.versions,
    }


def _cell(variant: VariantSummary, column: Column) -> Json | None:
    cell = variant.cells.get(column.name)
    if cell is None:
        return None
    mean, spread = formatted(cell, column)
    some = f"{cell.seeds} of {len(variant.seeds)} seeds" if cell.seeds < len(variant.seeds) else ""
    return {"mean": mean, "spread": spread, "some": some, "best": cell.best}


def _advantage(found: Json | None, folder: Path) -> Json | None:
    if found is None:
        return None
    candidates = [
        {
            "token": whole(one["token"]),
            "clean": one["reward"] > 0,
            "probability": f"{one['probability']:.4f}",
            "forms": [f"{one[form]:+.3f}".replace("-", "−") for form in FORMS],
        }
        for one in found["candidates"]
    ]
    return {
        "figure": probed_figures.advantage(found, folder),
        "prompt": found.get("prompt", ""),
        "context": whole(found.get("context", "")),
        "forms": list(FORMS.values()),
        "candidates": candidates,
    }


def experiment_tables(source: ExperimentSource) -> dict[str, str]:
    """Markdown tables by name."""
    variants = summarised(source.rows)
    said = verdict(variants)
    tables = {"comparison": markdown_table(variants) + (f"\n{said}\n" if said else "")}
    if source.shift:
        tables["shift"] = probed_figures.shift_table(source.shift)
    if source.advantage:
        tables["advantage-forms"] = probed_figures.advantage_table(source.advantage)
    return tables
