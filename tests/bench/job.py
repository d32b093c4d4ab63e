"""A whole job on the real stack: the quickstart, cut to the size that the public trainer was measured at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROMPTS = 3_072
"""384 prompts, 8 answers each."""
PUBLIC_S = (282, 300)
"""Of the paper's public trainer with the same numbers of prompts, answers, confusion points, on two cores."""


def whole(model: Path) -> Iterator[str]:
    """The same prompts and updates from start-up to the exported model, and with rollouts ahead of the learner."""
    both = ("rollout.actors=2", "learner.ranks=2")
    yield from _told("2 rollout actors, 2 learner ranks, in turns", _run(model.parent / "sync", *both))
    one = ("rollout.actors=1", "learner.ranks=1")
    sync = _run(model.parent / "one", *one)
    yield from _told("1 rollout actor, 1 learner rank, in turns", sync)
    for staleness in (1, 2, 4):
        ahead = _run(model.parent / f"ahead-{staleness}", *one, f"flow.max_staleness={staleness}")
        yield from _told(f"the same, rollouts up to {staleness} versions ahead", ahead)
        yield f"    {sync['seconds']['train'] / ahead['seconds']['train']:.2f}x the throughput of taking turns"


def _told(what: str, result: dict[str, Any]) -> Iterator[str]:
    seconds, prompts = result["seconds"], result["prompts"]
    yield (
        f"{what}: {seconds['train']:.1f} s for {prompts['total']:,} answers and {result['updates']} updates "
        f"(public trainer {PUBLIC_S[0]}-{PUBLIC_S[1]} s)"
    )
    yield (
        f"    waiting for groups {seconds['train_collect']:.1f} s, updates {seconds['train_update']:.1f} s, weights "
        f"{seconds['train_publish']:.1f} s; before it {seconds['start']:.0f} s start-up"
    )
    yield (
        f"    RPR {result['rpr_before']:.3f} -> {result['rpr_after']:.3f}, accuracy {result['accuracy_after']:.3f}; "
        f"{prompts['stale']} groups too old"
    )


def _run(folder: Path, *settings: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("tlpo")), "quickstart", f"data.limit={PROMPTS}", f"folder={folder}"]
    subprocess.run([*command, *settings], check=True, capture_output=True, timeout=900)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found
