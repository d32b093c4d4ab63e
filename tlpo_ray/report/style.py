"""The style of all figures, and how a figure becomes files and the panels of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.loading import heavy_imports

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#B0609A", "#3FA7DC", "#B8860B"
"""Okabe and Ito's colours, which colour-blind readers can distinguish; the lighter ones darkened for white paper."""
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
MARKERS = {"o": "●", "D": "◆", "s": "■", "^": "▲", "v": "▼", "P": "✚"}
"""matplotlib's name of a marker → its character in a legend. Colour is never the only difference."""
GRAY = "#767676"
"""Colour of what is neither of two things that are compared."""
INK = "#2b2b2c"
"""Colour of text and axes. In a page it is replaced by the page's own text colour, light or dark."""
PNG_DPI = 160
SHEET_WIDTH, PANEL_WIDTH = 9.9, 4.4
"""Width of a sheet of panels, and largest width of one panel, in inches."""
LEGEND_COLUMNS = 6
"""Most entries in a row of the legend."""

Draw = Callable[["Axes"], None]
"""Draws one panel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a legend.

    Example: ``Key(label="TLPO", color=BLUE, marker="o")``
    """

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
    """Return the legend entry of the number-th thing that is compared; the first 36 differ in colour or marker."""
    repeated, place = divmod(number, len(PALETTE))
    return Key(label=label, color=PALETTE[place], marker=list(MARKERS)[(place + repeated) % len(MARKERS)])


def sheet(
    panels: Sequence[Draw], folder: Path, name: str, *, height: float, columns: int = 3, keys: Sequence[Key] = ()
) -> tuple[str, ...]:
    """Write NAME.svg and NAME.png with all panels, and return each panel as an SVG for a page.

    A page arranges panels itself, so that they appear below each other on a phone.

    Args:
        panels: Functions that draw the panels.
        folder: Folder of the files.
        name: Name of the files.
        height: Height of a panel in inches.
        columns: Most panels next to each other in the files.
        keys: Legend above the panels in the files; a page writes its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = min(columns, len(panels))
    width = min(SHEET_WIDTH / columns, PANEL_WIDTH)
    rows = -(-len(panels) // columns)
    legend_rows = -(-len(keys) // LEGEND_COLUMNS)
    legend_columns = -(-len(keys) // max(1, legend_rows))
    with _figure(width * columns, height * rows + 0.3 * legend_rows, rows, columns) as (drawing, axes):
        for panel, place in zip(panels, axes, strict=False):
            panel(place)
        for place in axes[len(panels) :]:
            place.remove()
        if keys:
            drawing.legend(handles=[_handle(key) for key in keys], loc="outside upper left", ncols=legend_columns)
        drawing.savefig(folder / f"{name}.png", dpi=PNG_DPI, facecolor="white")
        drawing.set_layout_engine("none")  # keep the layout of the PNG: computing it again takes half of the time
        (folder / f"{name}.svg").write_text(_svg(drawing), encoding="utf-8")
    return tuple(_single(panel, width, height, f"{name}-{number}") for number, panel in enumerate(panels))


def _single(panel: Draw, width: float, height: float, name: str) -> str:
    with _figure(width, height, 1, 1) as (drawing, axes):
        panel(axes[0])
        return inline_svg(_svg(drawing), name)


@contextmanager
def _figure(width: float, height: float, rows: int, columns: int) -> Iterator[tuple[Drawing, list[Axes]]]:
    """Yield a matplotlib figure of a size in inches and its axes, in our style; close it at the end of the block."""
    with heavy_imports():
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

    with matplotlib.rc_context(_style()):
        drawing, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
        try:
            yield drawing, list(axes.flat)
        finally:
            pyplot.close(drawing)


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


def _handle(key: Key) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=key.color, marker=key.marker, linestyle="none", label=key.label)


def _svg(drawing: Drawing) -> str:
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def inline_svg(svg: str, name: str) -> str:
    """Return an SVG for use inside a page.

    Its ids begin with `name`, so that they are unique in the page; it takes the page's text colour and fonts, and the
    width of its place.
    """
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ((?:[^;\"]*? )?)([\d.]+)px [^;\"]*", _page_font, svg)
    opening, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]+"', "", opening) + ' aria-hidden="true">' + rest


def _page_font(match: re.Match[str]) -> str:
    """Keep size and weight of a font; the page decides its family."""
    weight = "; font-weight: 600" if re.search(r"\b(bold|[6-9]00)\b", match[1]) else ""
    return f"font-size: {match[2]}px{weight}"


def thin_out(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """Return at most `limit` points, each the mean of a stretch, so that a long run remains a small picture."""
    stride = max(1, -(-len(points) // limit))
    stretches = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [
        (sum(x for x, _ in stretch) / len(stretch), sum(y for _, y in stretch) / len(stretch)) for stretch in stretches
    ]
