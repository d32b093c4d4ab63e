"""`tlpo scale` on the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from tlpo_ray.cluster.events import STATUS
from tlpo_ray.commands.display import console
from tlpo_ray.errors import ResourceError
from tlpo_ray.run.control import scale


def scale_command(target: str, actors: int, address: str | None) -> None:
    """Request a number of rollout actors, wait until the run has acknowledged it, and print their states.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    if address is not None:
        return _scale_remotely(target, actors, address)
    folder = Path(target)
    states = scale(folder, actors)
    counts = ", ".join(f"{count:g} {state}" for state, count in states.items() if count)
    console.print(
        f"{actors} rollout actors requested; now {counts}. Pending ones wait for room in the cluster, leaving ones "
        f"finish their batches first: {folder / STATUS}",
        soft_wrap=True,
    )


def _scale_remotely(target: str, actors: int, address: str) -> None:
    from tlpo_ray.jobs.ray_shell import Jobs

    jobs = Jobs(address)
    command = ["tlpo", "scale", str(jobs.folder(target)), "--rollout-actors", str(actors)]
    code, line = jobs.run_once(shlex.join(command))
    if code:
        raise ResourceError(line.removeprefix("tlpo: "))
    console.print(line, soft_wrap=True)
