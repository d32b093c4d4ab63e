"""Detection of confused text in files, for `tlpo detect` and for use from Python.

>>> from tlpo_ray.detect import DetectRequest, detect
>>> for found in detect(DetectRequest(files=[Path("answers.jsonl")], language="ko")):
...     print(found.unit.place, found.findings)

Names are imported when they are first used: the command line reads its defaults from `detect.request`, and must not
load the detectors for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from tlpo_ray.detect.checker import LanguageTotals
    from tlpo_ray.detect.detection import Detection, UnitFindings, detect
    from tlpo_ray.detect.request import DetectRequest
    from tlpo_ray.detect.units import Unit

__all__ = ["DetectRequest", "Detection", "LanguageTotals", "Unit", "UnitFindings", "detect"]

__getattr__ = lazy_exports(
    __name__,
    {
        "DetectRequest": "tlpo_ray.detect.request",
        "Detection": "tlpo_ray.detect.detection",
        "LanguageTotals": "tlpo_ray.detect.checker",
        "Unit": "tlpo_ray.detect.units",
        "UnitFindings": "tlpo_ray.detect.detection",
        "detect": "tlpo_ray.detect.detection",
    },
)
