"""What `make bench` writes into BENCHMARKS.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import book
from tests.bench.compare import Figure, Row

ROW = Row(what="a|b", ours="new", alternative="old", ours_s=(1.0, 2.0, 1.0), alternative_s=(3.0, 8.0, 2.0))
BENCHMARKS = (
    "setup", "start", "memory", "learner", "rollout", "weights", "sync", "checkpoint", "yield", "flow", "job",
    "ahead", "detect", "soak",
)  # fmt: skip


def test_only_its_section_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "B.md"
    file.write_text("before\n<!-- bench a -->\nold\n<!-- end a -->\nbetween\n<!-- bench b -->\n<!-- end b -->\n")
    book.keep("a", [ROW, Figure(what="memory", value="3 MiB")], file)
    book.keep("a", [ROW, Figure(what="memory", value="4 MiB")], file)
    text = file.read_text()
    assert text.startswith("before\n<!-- bench a -->\n| what |") and text.endswith("<!-- bench b -->\n<!-- end b -->\n")
    assert "old\n" not in text and "3 MiB" not in text
    assert "| a\\|b | new (1.00 s) | old (2.00 s) | **3.0x** | 2.0x to 4.0x |" in text
    assert "| memory | 4 MiB |" in text


def test_a_wide_table_becomes_a_list() -> None:
    wide = replace(ROW, what="forward and backward pass", ours="new " * 40)
    text = book.tables([wide, Figure(what="memory", value="many " * 30)])
    assert text.startswith("* forward and backward pass: **3.0x** (2.0x to 4.0x)\n    * ours: new new")
    assert "\n* memory: many" in text and " (1.00 s)\n" in text
    assert max(map(len, text.splitlines())) <= book.WIDTH


def test_a_benchmark_without_a_section_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "B.md").write_text("nothing\n")
    with pytest.raises(ValueError, match="has no place for the benchmark a"):
        book.keep("a", [ROW], tmp_path / "B.md")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_file_has_a_section_for_every_benchmark(name: str) -> None:
    assert f"<!-- bench {name} -->\n" in book.BOOK.read_text(encoding="utf-8")
