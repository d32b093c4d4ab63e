"""Reports of runs and experiments: tables, figures and one self-contained page.

>>> from tlpo_ray.report import write_report
>>> write_report(Path("runs/quickstart"), Path("runs/quickstart/report")).page
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from tlpo_ray.report.page import Report, write_report

__all__ = ["Report", "write_report"]

__getattr__ = lazy_exports(__name__, dict.fromkeys(("Report", "write_report"), "tlpo_ray.report.page"))
