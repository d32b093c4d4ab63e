"""`tlpo status` on the terminal."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from tlpo_ray.cluster.events import SILENT_S, STATUS
from tlpo_ray.commands.display import console
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.run.control import RunStatus, status


def status_command(target: str, address: str | None, as_json: bool) -> None:
    """Print the state of a run in a folder of this machine, or, given a cluster's address, of one that it sees.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    found = status(Path(target)) if address is None else RunStatus.from_json(remote_status(target, address))
    if as_json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")
        return
    try:
        lines = _lines(found)
    except KeyError as error:
        raise UserError(
            f"{found.folder}: {STATUS} in it lacks {error}: an active run rewrites it within seconds"
        ) from error
    console.print(Text("\n").join(lines), soft_wrap=True)


def remote_status(target: str, address: str, *options: str) -> dict[str, Any]:
    """Return what `tlpo status --json` with further options prints on a cluster.

    Raises:
        ResourceError: It fails there.
    """
    from tlpo_ray.jobs.ray_shell import Jobs

    jobs = Jobs(address)
    code, line = jobs.run_once(shlex.join(["tlpo", "status", str(jobs.folder(target)), "--json", *options]))
    if code:
        state = "" if target.startswith("/") else f" (job {target}: {jobs.state(target)})"
        raise ResourceError(line.removeprefix("tlpo: ") + state)
    values: dict[str, Any] = json.loads(line)
    return values


def _lines(found: RunStatus) -> list[Text]:
    reported = found.reported
    rows = {"run": _state(found)}
    if "prompts" in reported:
        rows |= {
            "prompts": _prompts(reported),
            "rollouts": f"{_counts(reported['actors'])} · {reported['tokens_rate']:,.0f} tokens/s",
            "learner": f"policy version {reported['policy_version']} · {reported['groups_learned']} groups learned",
            "queue": f"{reported['queue_depth']} groups, the oldest waiting for {reported['queue_oldest']:.1f} s",
            "RPR": f"{reported['rpr_recent']:.4f} recently, {reported['rpr_so_far']:.4f} so far",
            "confused": "  ".join(f"{name} {rate:.1%}" for name, rate in reported["confusion_rate"].items()),
            "restarts": f"{reported['actor_restarts']} rollout actors, {reported['learner_restarts']} learner, "
            f"{reported['exchange_restarts']} exchange",
        }  # fmt: skip
    if (slow := reported.get("slow")) and not found.complete:
        rows["slow"] = "; ".join(f"{name} {what}" for name, what in slow.items())
    return [Text(f"{name:<10}", "bold").append(value, "not bold") for name, value in rows.items()]


def _state(found: RunStatus) -> str:
    if found.complete:
        return f"{found.folder} is complete"
    if found.age_s is None:
        return f"{found.folder} has not started to roll out"
    if found.age_s > SILENT_S:
        silence = _duration(found.age_s)
        return (
            f"{found.folder} has given no sign of life for {silence}: tlpo status --post-mortem says how it ended, "
            f"tlpo train --resume resumes it"
        )
    left = f", about {_duration(found.reported['eta'])} left" if "eta" in found.reported else ""
    return f"{found.folder} has been running for {_duration(found.reported['seconds'])}{left}"


def _prompts(reported: Mapping[str, Any]) -> str:
    states = {**reported["prompts"], "skipped": sum(reported["prompts_skipped"].values())}
    done = f"{reported['prompts_done']:,} of {reported['prompts_total']:,} ({reported['progress']:.0%})"
    return f"{done}: {_counts(states)}"


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{count:,.0f} {name}" for name, count in counts.items() if count) or "none"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
