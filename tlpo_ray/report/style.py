"""One style for every figure, and how a figure becomes SVG in a page and files beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#B0609A", "#3FA7DC", "#B8860B"
"""Okabe and Ito's colours, which colour-blind readers tell apart; the lighter ones darkened for white paper."""
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
INK = "#2b2b2c"
"""Of text and axes. In a page it becomes the page's own text colour, light or dark."""
PNG_DPI = 160


@contextmanager
def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure (inches) and its axes in the house style; closed at the end of the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_style()):
        drawn, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
        try:
            yield drawn, axes
        finally:
            pyplot.close(drawn)


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none", "svg.hashsalt": "tlpo", "font.family": "sans-serif", "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.5, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
        "xtick.color": INK, "ytick.color": INK, "text.color": INK, "axes.grid": True, "grid.alpha": 0.18,
        "grid.color": INK, "legend.frameon": False, "lines.linewidth": 2.0, "axes.axisbelow": True,
    }  # fmt: skip


def save(drawn: Any, folder: Path, name: str) -> str:
    """Write NAME.svg and NAME.png; the SVG as it goes into a page."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawn.savefig(folder / f"{name}.png", dpi=PNG_DPI, facecolor="white")
    svg = buffer.getvalue()
    (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return inlined(svg, name)


def inlined(svg: str, name: str) -> str:
    """An SVG for the inside of a page: ids of its own, the page's text colour and fonts, as wide as its place."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: [^;\"]*?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    return re.sub(
        r'<svg ([^>]*?)width="[^"]+"',
        r'<svg role="presentation" \1',
        re.sub(r' height="[\d.]+pt"', "", svg, count=1),
        count=1,
    )
