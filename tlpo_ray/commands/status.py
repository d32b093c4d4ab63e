"""`tlpo status`: what a run is at."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from tlpo_ray.commands.display import console
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.run.control import STATUS, look

SILENT_S = 30.0
"""Without a sign of life for so long, a run is no longer said to be going on."""


def status_command(target: str, address: str | None, as_json: bool) -> None:
    """Of a run in a folder of this machine, or, with the address of a cluster, of one that it sees.

    Raises:
        TlpoError: see `flow.errors`.
    """
    found = look(Path(target)) if address is None else _from_afar(target, address)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        try:
            lines = _lines(found)
        except KeyError as error:
            raise UserError(
                f"{found['folder']}: {STATUS} in it lacks {error}: a run that goes on writes it anew within seconds"
            ) from error
        console.print(Text("\n").join(lines), soft_wrap=True)


def _from_afar(target: str, address: str) -> dict[str, Any]:
    from tlpo_ray.jobs.ray_shell import Jobs

    jobs = Jobs(address)
    code, line = jobs.errand(shlex.join(["tlpo", "status", str(jobs.folder(target)), "--json"]))
    if code:
        state = "" if target.startswith("/") else f" (job {target}: {jobs.state(target)})"
        raise ResourceError(line.removeprefix("tlpo: ") + state)
    found: dict[str, Any] = json.loads(line)
    return found


def _lines(found: dict[str, Any]) -> list[Text]:
    """For people."""
    rows = {"run": _state(found)}
    if "prompts" in found:
        rows |= {
            "prompts": _prompts(found),
            "rollouts": f"{_counts(found['actors'])} · {found['tokens_rate']:,.0f} tokens/s",
            "learner": f"policy version {found['policy_version']} · {found['groups_learned']} groups learned",
            "queue": f"{found['queue_depth']} groups, the first for {found['queue_oldest']:.1f} s",
            "RPR": f"{found['rpr_recent']:.4f} lately, {found['rpr_so_far']:.4f} so far",
            "confused": "  ".join(f"{name} {rate:.1%}" for name, rate in found["confusion_rate"].items()),
            "restarts": f"{found['restarts']} rollout actors, {found['learner_restarts']} learner, "
            f"{found['exchange_restarts']} exchange",
        }  # fmt: skip
    return [Text(f"{name:<10}", "bold").append(value, "not bold") for name, value in rows.items()]


def _state(found: dict[str, Any]) -> str:
    if found["complete"]:
        return f"{found['folder']} is complete"
    if "age" not in found:
        return f"{found['folder']} has not begun to roll out"
    if found["age"] > SILENT_S:
        silent = _duration(found["age"])
        return f"{found['folder']} has given no sign of life for {silent}: tlpo train --resume goes on with it"
    left = f", about {_duration(found['eta'])} left" if "eta" in found else ""
    return f"{found['folder']} has been going on for {_duration(found['seconds'])}{left}"


def _prompts(found: dict[str, Any]) -> str:
    places = {**found["prompts"], "skipped": sum(found["prompts_skipped"].values())}
    done = f"{found['prompts_done']:,} of {found['prompts_total']:,} ({found['progress']:.0%})"
    return f"{done}: {_counts(places)}"


def _counts(counts: dict[str, float]) -> str:
    return ", ".join(f"{count:,.0f} {name}" for name, count in counts.items() if count) or "none"


def _duration(seconds: float) -> str:
    """Two units at most."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
