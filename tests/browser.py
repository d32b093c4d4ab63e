"""A real headless browser, where one is installed."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATH = next((path for name in NAMES if (path := shutil.which(name))), None)
MISSING = f"no browser is installed (looked for {', '.join(NAMES)})"
