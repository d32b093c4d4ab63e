"""The numbers and texts of a report, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.flow.errors import UserError
from tlpo_ray.report.page import write_report
from tlpo_ray.report.run_page import marked_parts
from tlpo_ray.report.summary import markdown_table, summarised, verdict


def row(variant: str, seed: int, method: str = "tlpo", **metrics: float) -> dict[str, Any]:
    return {
        "variant": variant,
        "label": variant.upper(),
        "method": method,
        "seed": seed,
        "axes": {},
        "metrics": metrics,
    }


def experiment(folder: Path, rows: list[dict[str, Any]], **plan: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(json.dumps({"name": "x", "title": "X"} | plan))
    (folder / "results.jsonl").write_text("\n".join(json.dumps(one) for one in rows))
    return folder


def test_means_spreads_and_the_best() -> None:
    rows = [row("a", 0, rpr=0.9, kl_clean=0.1), row("a", 1, rpr=0.8, kl_clean=0.3), row("b", 0, rpr=0.86, kl_clean=0.1)]
    a, b = summarised([*rows, row("before", 0, "none", rpr=0.99)])[:2]
    assert a.cells["rpr"].mean == pytest.approx(0.85) and a.cells["rpr"].spread == pytest.approx(0.0707, abs=1e-4)
    assert b.cells["rpr"].best and not a.cells["rpr"].best, "what was not trained is not compared"
    assert b.cells["kl_clean"].best and b.cells["rpr"].spread == 0
    assert a.seeds == (0, 1)


def test_the_verdict_says_where_tlpo_is_beaten() -> None:
    before = row("baseline", 0, "none", rpr=0.7, accuracy=0.99)
    ours = row("tlpo", 0, rpr=0.98, wpr=0.99, accuracy=0.97, kl_clean=0.02)
    other = row("dpo", 0, "dpo", rpr=0.97, wpr=0.995, accuracy=0.95, kl_clean=0.5)
    said = verdict(summarised([before, ours, other]))
    assert said.startswith("TLPO has the best RPR, 98.0% ± 0.0%; next comes DPO")
    assert "worse than the 99.00% before" in said and said.endswith("It is beaten on: WPR (DPO).")
    beaten = verdict(summarised([before, ours, other | {"metrics": {"rpr": 0.99}}]))
    assert "does not have the best RPR" in beaten and "RPR (DPO)" in beaten
    assert verdict(summarised([before, other])) == ""


def test_the_markdown_table_marks_the_best_and_keeps_to_its_columns() -> None:
    table = markdown_table(summarised([row("a|b", 0, rpr=0.9), row("c", 0, rpr=0.8, other=3.0)]))
    lines = table.splitlines()
    assert lines[0] == "|  | RPR, % | other |"
    assert "**90.00 ± 0.00**" in lines[2] and r"A\|B" in lines[2]
    assert lines[3].startswith("| C | 80.00 ± 0.00 | 3 ± 0")


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=4))
def test_marked_parts_are_the_text(text: str, pairs: list[tuple[int, int]]) -> None:
    spans = [(min(pair), max(pair)) for pair in pairs]
    parts = marked_parts(text, spans)
    assert "".join(part for part, _ in parts) == text
    confused = sum(len(part) for part, marked in parts if marked)
    assert confused == len({i for start, end in spans for i in range(start, end) if i < len(text)})


def test_texts_of_users_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script>"&'
    rows = [row("a", 0, rpr=0.5) | {"label": evil}, row("b", 0, rpr=0.4), row("c", 0, rpr=0.4)]
    page = write_report(experiment(tmp_path / "e", rows, title=evil, about=evil), tmp_path / "out").page.read_text(
        "utf-8"
    )
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_what_cannot_be_reported_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run"):
        write_report(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no trial has ended yet"):
        write_report(experiment(tmp_path / "e", []), tmp_path / "out")
    (tmp_path / "e" / "results.jsonl").write_text('{"variant"')
    with pytest.raises(UserError, match="a file of it is damaged"):
        write_report(tmp_path / "e", tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
