"""Development data beside the checkout, or where TLPO_SHARED points; tests that need them skip without."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("TLPO_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
