"""`tlpo scale`: more or fewer rollout actors while a run goes on."""

from __future__ import annotations

import shlex
from pathlib import Path

from tlpo_ray.commands.display import console
from tlpo_ray.errors import ResourceError
from tlpo_ray.run.control import STATUS, scale


def scale_command(target: str, actors: int, address: str | None) -> None:
    """Ask, wait until the run has noticed, and say how its actors stand.

    Raises:
        TlpoError: see `flow.errors`.
    """
    if address is not None:
        return _from_afar(target, actors, address)
    folder = Path(target)
    states = scale(folder, actors)
    shown = ", ".join(f"{count:g} {state}" for state, count in states.items() if count)
    console.print(
        f"{actors} rollout actors asked for; now {shown}. Those that are pending wait for room in the cluster, those "
        f"that leave finish their lots first: {folder / STATUS}",
        soft_wrap=True,
    )


def _from_afar(target: str, actors: int, address: str) -> None:
    from tlpo_ray.jobs.ray_shell import Jobs

    jobs = Jobs(address)
    command = ["tlpo", "scale", str(jobs.folder(target)), "--rollout-actors", str(actors)]
    code, line = jobs.errand(shlex.join(command))
    if code:
        raise ResourceError(line.removeprefix("tlpo: "))
    console.print(line, soft_wrap=True)
