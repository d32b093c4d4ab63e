"""The page of an experiment: one paragraph, one table, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.report.excerpt import trim_partial
from tlpo_ray.report.experiment_figures import FORMS, draw_figures
from tlpo_ray.report.probed_figures import advantage_table, draw_advantage, draw_shift, shift_table
from tlpo_ray.report.source import ExperimentSource
from tlpo_ray.report.summary import (
    Column,
    VariantSummary,
    format_cell,
    markdown_table,
    shown_columns,
    summarise_variants,
)
from tlpo_ray.report.verdict import verdict

Json = dict[str, Any]


def experiment_context(source: ExperimentSource, folder: Path) -> Json:
    """Draw the figures into `folder`, and return everything that the template needs."""
    variants = summarise_variants(source.rows)
    columns = shown_columns(variants)
    figures = draw_figures(source, variants, folder)
    advantage = _advantage_context(source.advantage, folder) if source.advantage is not None else None
    shift = draw_shift(source.shift, folder) if source.shift else None
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
                "cells": [_cell_context(variant, column) for column in columns],
            }
            for variant in variants
        ],
        "figures": figures,
        "advantage": advantage,
        "shift": shift,
        "drawn": [figure.name for figure in (*figures, *probed) if figure is not None],
        "seeds": sorted({seed for variant in variants for seed in variant.seeds}),
        "trials": len(source.rows),
        "name": source.plan.get("name", source.folder.name),
        "plan_text": dump_document(source.plan),
        "versions": source.versions,
    }


def _cell_context(variant: VariantSummary, column: Column) -> Json | None:
    cell = variant.cells.get(column.name)
    if cell is None:
        return None
    mean, spread = format_cell(cell, column)
    coverage = f"{cell.seeds} of {len(variant.seeds)} seeds" if cell.seeds < len(variant.seeds) else ""
    return {"mean": mean, "spread": spread, "coverage": coverage, "best": cell.best}


def _advantage_context(advantage: Json, folder: Path) -> Json:
    candidates = [
        {
            "token": trim_partial(candidate["token"]),
            "kind": _kind(candidate["reward"]),
            "probability": f"{candidate['probability']:.4f}",
            "forms": [f"{candidate[form]:+.3f}".replace("-", "−") for form in FORMS],
        }
        for candidate in advantage["candidates"]
    ]
    return {
        "figure": draw_advantage(advantage, folder),
        "prompt": advantage.get("prompt", ""),
        "context": trim_partial(advantage.get("context", "")),
        "forms": list(FORMS.values()),
        "candidates": candidates,
    }


def _kind(reward: float) -> str:
    return "clean" if reward > 0 else "confused" if reward < 0 else "undecided"


def experiment_tables(source: ExperimentSource) -> dict[str, str]:
    """Return Markdown tables by name."""
    variants = summarise_variants(source.rows)
    words = verdict(variants).markdown
    tables = {"comparison": markdown_table(variants) + (f"\n{words}\n" if words else "")}
    if source.shift:
        tables["shift"] = shift_table(source.shift)
    if source.advantage:
        tables["advantage-forms"] = advantage_table(source.advantage)
    return tables
