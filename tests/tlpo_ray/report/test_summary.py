from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tlpo_ray.report.folders import row
from tlpo_ray.report.summary import COLUMNS, cell_text, format_cell, markdown_table, shown_columns, summarise_variants

RPR = COLUMNS[0]
SECONDS = next(column for column in COLUMNS if column.name == "seconds")


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    (variant,) = summarise_variants([row("tlpo", seed, rpr=value) for seed, value in enumerate((0.90, 0.94, 0.98))])
    cell = variant.cells["rpr"]
    assert (cell.mean, cell.spread, cell.seeds) == (pytest.approx(0.94), pytest.approx(0.04), 3)
    assert format_cell(cell, RPR) == ("94.00", "± 4.00")
    assert variant.seeds == (0, 1, 2)


def test_one_seed_has_no_spread_to_show() -> None:
    (variant,) = summarise_variants([row("tlpo", rpr=0.9)])
    assert variant.cells["rpr"].spread is None
    assert cell_text(variant.cells["rpr"], RPR, 1) == "90.00"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, "diverged"])
def test_a_seed_without_the_metric_is_reported_and_left_out_of_the_mean(missing: object) -> None:
    (variant,) = summarise_variants([row("sft", 0, rpr=0.8), row("sft", 1, rpr=missing), row("sft", 2, rpr=0.9)])
    assert cell_text(variant.cells["rpr"], RPR, 3) == "85.00 ± 7.07 (2 of 3 seeds)"


def test_the_best_trained_variant_is_marked_by_its_columns_direction_ties_included() -> None:
    before, first, second, third = summarise_variants(
        [
            row("baseline", method="none", rpr=0.999, seconds=0.0, length=9.0),
            row("tlpo", rpr=0.98004, seconds=20.0, length=8.0),
            row("sft", method="sft", rpr=0.98, seconds=10.0, length=7.0),
            row("dpo", method="dpo", rpr=0.9, seconds=30.0, length=6.0),
        ]
    )
    assert [variant.cells["rpr"].best for variant in (before, first, second, third)] == [False, True, True, False]
    assert [variant.cells["seconds"].best for variant in (before, first, second, third)] == [False, False, True, False]
    assert not any(variant.cells["length"].best for variant in (first, second, third)), "neither direction is better"


def test_nothing_is_best_where_all_are_equal() -> None:
    variants = summarise_variants([row("tlpo", accuracy=1.0), row("sft", method="sft", accuracy=1.0)])
    assert not any(variant.cells["accuracy"].best for variant in variants)


def test_a_decoding_method_has_no_distance_of_weights() -> None:
    tlpo, mask = summarise_variants(
        [row("tlpo", rpr=0.9, kl_clean=0.01), row("mask", method="mask", rpr=1.0, kl_clean=0.0)]
    )
    assert "kl_clean" in tlpo.cells and mask.cells.keys() == {"rpr"}


def test_unknown_metrics_come_after_the_known_ones() -> None:
    variants = summarise_variants([row("tlpo", zebra=12.3456, seconds=3.0, rpr=0.5)])
    assert [column.name for column in shown_columns(variants)] == ["rpr", "seconds", "zebra"]
    assert "| 12.35 |" in markdown_table(variants)


def test_the_markdown_table_marks_the_best_and_escapes_labels() -> None:
    variants = summarise_variants([row("tlpo", label="a|b", rpr=0.9), row("sft", method="sft", rpr=0.8)])
    assert markdown_table(variants).splitlines() == [
        "|  | RPR, % |",
        "|---|---|",
        r"| a\|b | **90.00** |",
        "| sft | 80.00 |",
    ]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_a_marked_value_is_never_beaten_by_a_visible_margin(first: list[float], second: list[float]) -> None:
    rows = [row(name, seed, method="sft", rpr=value) for name, values in (("a", first), ("b", second))
            for seed, value in enumerate(values)]  # fmt: skip
    cells = [variant.cells["rpr"] for variant in summarise_variants(rows)]
    for cell in cells:
        if cell.best:
            assert all(cell.mean >= rival.mean - 0.0005 for rival in cells)
    assert sum(cell.best for cell in cells) < 2


def test_axes_of_earlier_releases_get_todays_names() -> None:
    (variant,) = summarise_variants([row("n4", axes={"candidates": 4, "lr": 1e-3}, rpr=0.9)])
    assert variant.axes == {"num_candidates": 4, "lr": 1e-3}
