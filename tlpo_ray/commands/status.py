"""`tlpo status` on the terminal."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from tlpo_ray.commands.display import console
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.run.control import STATUS, status

SILENT_S = 30.0
"""Seconds without a heartbeat after which a run no longer counts as running."""


def status_command(target: str, address: str | None, as_json: bool) -> None:
    """Print the state of a run in a folder of this machine, or, given a cluster's address, of one that it sees.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    reported = status(Path(target)) if address is None else _remote_status(target, address)
    if as_json:
        sys.stdout.write(json.dumps(reported) + "\n")
        return
    try:
        lines = _lines(reported)
    except KeyError as error:
        raise UserError(
            f"{reported['folder']}: {STATUS} in it lacks {error}: a running run rewrites it within seconds"
        ) from error
    console.print(Text("\n").join(lines), soft_wrap=True)


def _remote_status(target: str, address: str) -> dict[str, Any]:
    from tlpo_ray.jobs.ray_shell import Jobs

    jobs = Jobs(address)
    code, line = jobs.run_once(shlex.join(["tlpo", "status", str(jobs.folder(target)), "--json"]))
    if code:
        state = "" if target.startswith("/") else f" (job {target}: {jobs.state(target)})"
        raise ResourceError(line.removeprefix("tlpo: ") + state)
    reported: dict[str, Any] = json.loads(line)
    return reported


def _lines(reported: dict[str, Any]) -> list[Text]:
    rows = {"run": _state(reported)}
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
    return [Text(f"{name:<10}", "bold").append(value, "not bold") for name, value in rows.items()]


def _state(reported: dict[str, Any]) -> str:
    if reported["complete"]:
        return f"{reported['folder']} is complete"
    if "age" not in reported:
        return f"{reported['folder']} has not started to roll out"
    if reported["age"] > SILENT_S:
        silence = _duration(reported["age"])
        return f"{reported['folder']} has given no sign of life for {silence}: resume it with tlpo train --resume"
    left = f", about {_duration(reported['eta'])} left" if "eta" in reported else ""
    return f"{reported['folder']} has been running for {_duration(reported['seconds'])}{left}"


def _prompts(reported: dict[str, Any]) -> str:
    states = {**reported["prompts"], "skipped": sum(reported["prompts_skipped"].values())}
    done = f"{reported['prompts_done']:,} of {reported['prompts_total']:,} ({reported['progress']:.0%})"
    return f"{done}: {_counts(states)}"


def _counts(counts: dict[str, float]) -> str:
    return ", ".join(f"{count:,.0f} {name}" for name, count in counts.items() if count) or "none"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
