"""One style for every figure, and how a figure becomes files, and panels in a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#B0609A", "#3FA7DC", "#B8860B"
"""Okabe and Ito's colours, which colour-blind readers tell apart; the lighter ones darkened for white paper."""
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
MARKERS = {"o": "●", "D": "◆", "s": "■", "^": "▲", "v": "▼", "P": "✚"}
"""matplotlib's name of a marker, and how a page's legend shows it: nothing is told apart by colour alone."""
INK = "#2b2b2c"
"""Of text and axes. In a page it becomes the page's own text colour, light or dark."""
PNG_DPI = 160
SHEET, WIDEST = 9.9, 4.4
"""Inches across a sheet of panels, and across one panel where there are few."""

Draw = Callable[[Any], None]
"""Draws one panel onto matplotlib axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One line of a legend."""

    label: str
    color: str
    marker: str = "s"

    @property
    def glyph(self) -> str:
        """The marker as a character."""
        return MARKERS[self.marker]

    @property
    def css(self) -> str:
        """The colour in a page."""
        return "currentColor" if self.color == INK else self.color


def key(number: int, label: str) -> Key:
    """Colour and marker of the number-th thing that is compared."""
    return Key(label=label, color=PALETTE[number % len(PALETTE)], marker=list(MARKERS)[number % len(MARKERS)])


def sheet(
    panels: Sequence[Draw], folder: Path, name: str, *, height: float, across: int = 3, keys: Sequence[Key] = ()
) -> tuple[str, ...]:
    """Write NAME.svg and NAME.png with all panels; each panel alone as SVG for the inside of a page.

    A page lays panels out by itself, so that they stand below each other on a phone.

    Args:
        height: inches of a panel.
        keys: legend above the panels of the files; a page writes its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    across = min(across, len(panels))
    width = min(SHEET / across, WIDEST)
    rows = -(-len(panels) // across)
    with _figure(width * across, height * rows + (0.3 if keys else 0.0), rows, across) as (drawn, axes):
        for panel, place in zip(panels, axes, strict=False):
            panel(place)
        for place in axes[len(panels) :]:
            place.remove()
        if keys:
            drawn.legend(handles=[_handle(one) for one in keys], loc="outside upper left", ncols=len(keys))
        drawn.savefig(folder / f"{name}.png", dpi=PNG_DPI, facecolor="white")
        drawn.set_layout_engine("none")  # what was laid out once stays: half of the time is this
        (folder / f"{name}.svg").write_text(_svg(drawn), encoding="utf-8")
    return tuple(_alone(panel, width, height, f"{name}-{number}") for number, panel in enumerate(panels))


def _alone(panel: Draw, width: float, height: float, name: str) -> str:
    with _figure(width, height, 1, 1) as (drawn, axes):
        panel(axes[0])
        return inlined(_svg(drawn), name)


@contextmanager
def _figure(width: float, height: float, rows: int, columns: int) -> Iterator[tuple[Any, list[Any]]]:
    """A matplotlib figure (inches) and its axes in the house style; closed at the end of the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_style()):
        drawn, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
        try:
            yield drawn, list(axes.flat)
        finally:
            pyplot.close(drawn)


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none", "svg.hashsalt": "tlpo", "text.parse_math": False,
        "font.family": "sans-serif", "font.size": 9.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.titlepad": 8, "axes.edgecolor": INK, "axes.labelcolor": INK,
        "axes.titlecolor": INK, "axes.formatter.useoffset": False, "axes.axisbelow": True, "axes.xmargin": 0.06,
        "xtick.color": INK, "ytick.color": INK, "text.color": INK,
        "axes.grid": True, "axes.grid.axis": "y", "grid.alpha": 0.14, "grid.color": INK,
        "legend.frameon": False, "legend.handletextpad": 0.5, "lines.linewidth": 1.9, "lines.markersize": 6,
        "figure.constrained_layout.h_pad": 0.08, "figure.constrained_layout.w_pad": 0.08,
    }  # fmt: skip


def _handle(one: Key) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=one.color, marker=one.marker, linestyle="none", label=one.label)


def _svg(drawn: Any) -> str:
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def inlined(svg: str, name: str) -> str:
    """An SVG for the inside of a page: ids of its own, the page's text colour and fonts, as wide as its place."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ((?:[^;\"]*? )?)([\d.]+)px [^;\"]*", _plain_font, svg)
    opening, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]+"', "", opening) + ' aria-hidden="true">' + rest


def _plain_font(found: re.Match[str]) -> str:
    """Size and weight stay, the family is the page's."""
    weight = "; font-weight: 600" if re.search(r"\b(bold|[6-9]00)\b", found[1]) else ""
    return f"font-size: {found[2]}px{weight}"


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its stretch: a long run stays a small picture."""
    stride = max(1, -(-len(points) // most))
    lots = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [(sum(x for x, _ in lot) / len(lot), sum(y for _, y in lot) / len(lot)) for lot in lots]
