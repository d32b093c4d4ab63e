"""Write the measurements of `make bench` into BENCHMARKS.md.

The file has a section for each benchmark, between two comments; only the text between them is replaced.
"""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from tests.bench.compare import Figure, Measured, Row

BOOK = Path(__file__).parents[2] / "BENCHMARKS.md"
WIDTH = 130
"""Characters per line of Markdown. A table that is wider becomes a list."""


def keep(name: str, measured: Sequence[Measured], book: Path = BOOK) -> None:
    """Replace a benchmark's section.

    Raises:
        ValueError: The file has no such section.
    """
    text = book.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    if place.search(text) is None:
        raise ValueError(
            f"{book.name} has no place for the benchmark {name}: <!-- bench {name} --> … <!-- end {name} -->"
        )
    section = f"{tables(measured)}\n\n{textwrap.fill(f'*{machine()}*', WIDTH)}\n"
    book.write_text(place.sub(lambda match: match[1] + section + match[2], text), encoding="utf-8")


def tables(measured: Sequence[Measured]) -> str:
    """Return Markdown tables: comparisons and single measurements apart, in the order in which they came."""
    parts: list[str] = []
    for kind, group in groupby(measured, key=type):
        rows = list(group)
        if kind is Row:
            lines = ["| what | ours | alternative | ratio | rounds |", "|---|---|---|---|---|"]
            lines += [f"| {' | '.join(map(_escape, _cells(row)))} |" for row in rows if isinstance(row, Row)]
        else:
            lines = ["| what | figure |", "|---|---|"]
            lines += [f"| {_escape(one.what)} | {_escape(one.value)} |" for one in rows if isinstance(one, Figure)]
        if max(map(len, lines)) > WIDTH:
            lines = [_item(one) for one in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _item(one: Measured) -> str:
    """Return a measurement as a list item."""
    if isinstance(one, Figure):
        return _wrap(f"* {one.what}: {one.value}")
    what, ours, alternative, times, rounds = _cells(one)
    lines = (f"* {what}: {times} ({rounds})", f"    * ours: {ours}", f"    * alternative: {alternative}")
    return "\n".join(map(_wrap, lines))


def _wrap(item: str) -> str:
    indent = " " * (item.index("* ") + 2)
    return textwrap.fill(item, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return what was compared, ours, the alternative, the median ratio, and the range of ratios."""
    low, *_, high = row.ratios if len(row.ratios) > 1 else row.ratios * 2
    return (
        row.what,
        f"{row.ours} ({seconds(min(row.ours_s))})",
        f"{row.alternative} ({seconds(min(row.alternative_s))})",
        f"**{ratio(row.ratio)}**",
        f"{ratio(low)} to {ratio(high)}",
    )


def ratio(value: float) -> str:
    """Return a ratio with two significant digits: machines are noisy."""
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"


def seconds(value: float) -> str:
    """Return a duration in the unit that reads best."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def machine() -> str:
    """Return the machine and the versions of the libraries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(
        f"{name} {number}" for name in ("torch", "vllm", "ray", "deepspeed") if (number := _version(name))
    )
    return (
        f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB, Python {platform.python_version()}, {packages}; "
        f"seeds fixed; ratios are medians of the rounds, times the best"
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


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def line(one: Measured) -> str:
    """Return a measurement for the terminal, in rich's markup."""
    if isinstance(one, Figure):
        return f"         {one.what}: {one.value}"
    return (
        f"  [bold]{ratio(one.ratio):>6}[/bold] {one.what}\n"
        f"         [dim]{seconds(min(one.ours_s)):>8}  {one.ours}[/dim]\n"
        f"         [dim]{seconds(min(one.alternative_s)):>8}  {one.alternative}[/dim]"
    )
