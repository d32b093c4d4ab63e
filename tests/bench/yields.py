"""Tokens sampled for each confusion point that is learned from: a published model, with and without truncation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.compare import Figure

CUT = 16
"""Length at which three of four answers are cut while they are clean, in tokens."""
LIMIT_S = 3600
SETTINGS: dict[str, tuple[str, ...]] = {
    "whole answers": (),
    f"three of four cut at {CUT} tokens": (f"rollout.truncation={{max_new_tokens: {CUT}}}",),
}


def truncation(model: Path) -> Iterator[Figure]:
    """The quickstart on SmolLM2-135M-Instruct, seed 0, whole and truncated."""
    found = {what: _run(model.parent / f"yield-{len(settings)}", *settings) for what, settings in SETTINGS.items()}
    for what, result in found.items():
        yield Figure(
            what=f"SmolLM2-135M-Instruct, {what}",
            value=(
                f"{result['tokens_per_group']:,} tokens for each of {result['prompts']['confused']} confusion points, "
                f"{result['seconds']['train']:.0f} s of training, RPR of held-out questions {result['rpr_before']:.3f} "
                f"to {result['rpr_after']:.3f}"
            ),
        )
    whole, cut = found.values()
    yield Figure(
        what="truncated, relative to whole",
        value=(
            f"{cut['tokens_per_group'] / whole['tokens_per_group']:.2f} of the tokens for a confusion point, "
            f"{cut['seconds']['train'] / whole['seconds']['train']:.2f} of the time"
        ),
    )


def _run(folder: Path, *settings: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("tlpo")), "quickstart", "--model", "smollm2", f"folder={folder}"]
    subprocess.run([*command, *settings], check=True, capture_output=True, timeout=LIMIT_S)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result
