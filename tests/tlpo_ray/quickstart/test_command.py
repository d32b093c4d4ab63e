"""The quickstart command, shortened, in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FIELDS = {
    "rpr_before", "rpr_after", "wpr_before", "wpr_after", "accuracy_before", "accuracy_after", "updates",
    "confusion_points", "prompts", "seconds", "stack", "actors", "learner_ranks", "length_clean_before",
    "length_after", "kl_clean_contexts", "accuracy_any_language_before", "accuracy_any_language_after",
}  # fmt: skip


@pytest.mark.slow
def test_the_quickstart_repairs_the_toy_model_and_shows_what_changed(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("tlpo"), "quickstart", "--stack", "local", "data.limit=1536"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a run without warnings prints nothing there"
    result = json.loads((tmp_path / "runs" / "quickstart" / "result.json").read_text())
    assert result.keys() >= FIELDS
    assert result["rpr_before"] <= 0.85
    assert result["rpr_after"] >= result["rpr_before"] + 0.15
    assert result["accuracy_after"] >= result["rpr_after"] - 0.02, "clean answers are right answers"
    assert result["prompts"]["total"] == 1536
    assert done.stdout.count("before  ") == done.stdout.count("after   ") == 10
    assert "⟦" in done.stdout
