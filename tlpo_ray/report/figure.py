"""A drawn figure, as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from tlpo_ray.report.style import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels with a title, a caption and a legend.

    Example: ``Figure(name="cost", title="Cost", caption="Wall time.", panels=("<svg …",), keys=())``
    """

    name: str
    """Name of its files, NAME.svg and NAME.png."""
    title: str
    caption: str
    panels: tuple[str, ...]
    """One SVG per panel."""
    keys: tuple[Key, ...] = ()
    """Legend; empty if the panels need none."""
