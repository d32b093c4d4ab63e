"""The quickstart: a small model that mixes languages, a toy or a published one, repaired and compared.

>>> from tlpo_ray.quickstart import run_quickstart
>>> result = run_quickstart(stack="local")
>>> result.comparison.before.rpr, result.comparison.after.rpr
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from tlpo_ray.quickstart.comparison import Comparison, ComparisonResults, Example
    from tlpo_ray.quickstart.real_models import cached_real_model
    from tlpo_ray.quickstart.run import QuickstartResult, resume_quickstart, run_quickstart

__all__ = [
    "Comparison",
    "ComparisonResults",
    "Example",
    "QuickstartResult",
    "cached_real_model",
    "resume_quickstart",
    "run_quickstart",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Comparison": "tlpo_ray.quickstart.comparison",
        "ComparisonResults": "tlpo_ray.quickstart.comparison",
        "Example": "tlpo_ray.quickstart.comparison",
        "QuickstartResult": "tlpo_ray.quickstart.run",
        "cached_real_model": "tlpo_ray.quickstart.real_models",
        "resume_quickstart": "tlpo_ray.quickstart.run",
        "run_quickstart": "tlpo_ray.quickstart.run",
    },
)
