"""`tlpo scale`: more or fewer rollout actors while a run goes on."""

from __future__ import annotations

from pathlib import Path

from tlpo_ray.commands.display import console
from tlpo_ray.outside import STATUS, scale


def scale_command(folder: Path, actors: int) -> None:
    """Ask, wait until the run has noticed, and say how its actors stand."""
    states = scale(folder, actors)
    shown = ", ".join(f"{count} {state}" for state, count in states.items())
    console.print(
        f"{actors} rollout actors asked for; now {shown}. Those that are pending wait for room in the cluster, those "
        f"that leave finish their lots first: {folder / STATUS}",
        soft_wrap=True,
    )
