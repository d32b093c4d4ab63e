from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tlpo_ray.report.folders import row
from tlpo_ray.report.summary import COLUMNS, formatted, markdown_table, shown_columns, summarised, written

RPR = COLUMNS[0]
SECONDS = next(column for column in COLUMNS if column.name == "seconds")


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    (found,) = summarised([row("tlpo", seed, rpr=value) for seed, value in enumerate((0.90, 0.94, 0.98))])
    cell = found.cells["rpr"]
    assert (cell.mean, cell.spread, cell.seeds) == (pytest.approx(0.94), pytest.approx(0.04), 3)
    assert formatted(cell, RPR) == ("94.00", "± 4.00")
    assert found.seeds == (0, 1, 2)


def test_one_seed_has_no_spread_to_show() -> None:
    (found,) = summarised([row("tlpo", rpr=0.9)])
    assert found.cells["rpr"].spread is None
    assert written(found.cells["rpr"], RPR, 1) == "90.00"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, "diverged"])
def test_a_seed_without_the_metric_is_told_and_not_averaged_in(missing: object) -> None:
    (found,) = summarised([row("sft", 0, rpr=0.8), row("sft", 1, rpr=missing), row("sft", 2, rpr=0.9)])
    assert written(found.cells["rpr"], RPR, 3) == "85.00 ± 7.07 (2 of 3 seeds)"


def test_the_best_is_marked_by_the_direction_of_its_column_ties_included_and_never_the_model_before() -> None:
    before, first, second, third = summarised(
        [
            row("baseline", method="none", rpr=0.999, seconds=0.0, length=9.0),
            row("tlpo", rpr=0.98004, seconds=20.0, length=8.0),
            row("sft", method="sft", rpr=0.98, seconds=10.0, length=7.0),
            row("dpo", method="dpo", rpr=0.9, seconds=30.0, length=6.0),
        ]
    )
    assert [one.cells["rpr"].best for one in (before, first, second, third)] == [False, True, True, False]
    assert [one.cells["seconds"].best for one in (before, first, second, third)] == [False, False, True, False]
    assert not any(one.cells["length"].best for one in (first, second, third)), "neither long nor short is better"


def test_nothing_is_best_where_all_are_equal() -> None:
    found = summarised([row("tlpo", accuracy=1.0), row("sft", method="sft", accuracy=1.0)])
    assert not any(one.cells["accuracy"].best for one in found)


def test_unknown_metrics_come_after_the_known_ones() -> None:
    found = summarised([row("tlpo", zebra=12.3456, seconds=3.0, rpr=0.5)])
    assert [column.name for column in shown_columns(found)] == ["rpr", "seconds", "zebra"]
    assert "| 12.35 |" in markdown_table(found)


def test_the_markdown_table_marks_and_escapes() -> None:
    found = summarised([row("tlpo", label="a|b", rpr=0.9), row("sft", method="sft", rpr=0.8)])
    assert markdown_table(found).splitlines() == [
        "|  | RPR, % |",
        "|---|---|",
        r"| a\|b | **90.00** |",
        "| sft | 80.00 |",
    ]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_what_is_marked_is_never_beaten_by_more_than_shows(one: list[float], other: list[float]) -> None:
    rows = [row(name, seed, method="sft", rpr=value) for name, found in (("a", one), ("b", other))
            for seed, value in enumerate(found)]  # fmt: skip
    cells = [variant.cells["rpr"] for variant in summarised(rows)]
    for cell in cells:
        if cell.best:
            assert all(cell.mean >= rival.mean - 0.0005 for rival in cells)
    assert sum(cell.best for cell in cells) < 2
