"""BENCHMARKS.md: what `make bench` measured, written between the words of its authors.

The file has a place for each benchmark, between two comments; only what lies there is replaced.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from tests.bench.compare import Figure, Measured, Row

BOOK = Path(__file__).parents[2] / "BENCHMARKS.md"


def keep(name: str, measured: Sequence[Measured], book: Path = BOOK) -> None:
    """Write a benchmark's figures into its place.

    Raises:
        ValueError: the book has no such place.
    """
    text = book.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    if place.search(text) is None:
        raise ValueError(
            f"{book.name} has no place for the benchmark {name}: <!-- bench {name} --> … <!-- end {name} -->"
        )
    written = f"{tables(measured)}\n\n*{machine()}*\n"
    book.write_text(place.sub(lambda found: found[1] + written + found[2], text), encoding="utf-8")


def tables(measured: Sequence[Measured]) -> str:
    """Markdown: a table for what was compared, one for what was measured alone, in the order they came."""
    parts: list[str] = []
    for kind, group in groupby(measured, key=type):
        if kind is Row:
            lines = ["| what | ours | alternative | ratio | rounds |", "|---|---|---|---|---|"]
            lines += [_compared(row) for row in group if isinstance(row, Row)]
        else:
            lines = ["| what | figure |", "|---|---|"]
            lines += [f"| {_cell(one.what)} | {_cell(one.value)} |" for one in group if isinstance(one, Figure)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _compared(row: Row) -> str:
    low, *_, high = row.ratios if len(row.ratios) > 1 else row.ratios * 2
    cells = (
        row.what,
        f"{row.ours} ({seconds(min(row.ours_s))})",
        f"{row.alternative} ({seconds(min(row.alternative_s))})",
        f"**{ratio(row.ratio)}**",
        f"{ratio(low)} to {ratio(high)}",
    )
    return f"| {' | '.join(map(_cell, cells))} |"


def ratio(value: float) -> str:
    """Two significant digits: machines are noisy."""
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"


def seconds(value: float) -> str:
    """In the unit that reads best."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def machine() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(
        f"{name} {found}" for name in ("torch", "vllm", "ray", "deepspeed") if (found := _version(name))
    )
    return (
        f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB, Python {platform.python_version()}, {packages}; "
        f"seeds fixed, a ratio is the median of its rounds, times are the best"
    )


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", file.read_text(encoding="utf-8")) if file.exists() else None
    return named[1].strip() if named else platform.machine()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def line(one: Measured) -> str:
    """For the terminal, in rich's markup."""
    if isinstance(one, Figure):
        return f"         {one.what}: {one.value}"
    return (
        f"  [bold]{ratio(one.ratio):>6}[/bold] {one.what}\n"
        f"         [dim]{seconds(min(one.ours_s)):>8}  {one.ours}[/dim]\n"
        f"         [dim]{seconds(min(one.alternative_s)):>8}  {one.alternative}[/dim]"
    )
