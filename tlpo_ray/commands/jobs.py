"""`tlpo submit`, `tlpo logs` and `tlpo stop`: runs as jobs of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tlpo_ray.commands.display import console
from tlpo_ray.errors import DeadlineError, UserError
from tlpo_ray.jobs.ray_shell import Jobs
from tlpo_ray.jobs.upload import new_run, resumed_run

LOST = 3
"""Exit code of who has lost sight of a job that goes on."""


def submit_command(
    name: str | None, overrides: Sequence[str], address: str | None, resume: Path | None, detach: bool
) -> int:
    """Start a run on a cluster, and stay until it ends unless `detach`; its exit code.

    Raises:
        TlpoError: see `flow.errors`.
    """
    with TemporaryDirectory(prefix="tlpo-submit-") as upload:
        if resume is not None:
            job = resumed_run(name, resume, overrides)
        else:
            assert name is not None
            job = new_run(name, overrides, Path(upload))
        jobs = Jobs(address)
        started = jobs.submit(job)
    there = _there(address)
    console.print(
        f"job {started}, run folder {job.folder}\n[dim]tlpo status {started}{there}\ntlpo logs {started}{there}\n"
        f"tlpo scale {started} --rollout-actors N{there}\ntlpo stop {started}{there}[/dim]",
        soft_wrap=True,
    )
    return 0 if detach else _follow(jobs, started, address)


def logs_command(name: str, address: str | None) -> int:
    """Show a job's output from its beginning, and stay until it ends; its exit code."""
    return _follow(Jobs(address), name, address)


def _follow(jobs: Jobs, name: str, address: str | None) -> int:
    there = _there(address)
    try:
        code = jobs.follow(name, _write)
    except KeyboardInterrupt:
        console.print(f"\njob {name} goes on; to end it: tlpo stop {name}{there}", soft_wrap=True)
        raise
    except DeadlineError as error:
        sys.stderr.write(f"tlpo: {error}; job {name} may well go on: tlpo logs {name}{there}\n")
        return LOST
    console.print(f"job {name} has ended, exit code {code}", soft_wrap=True)
    return code


def stop_command(name: str, address: str | None) -> None:
    """End a run; nothing of it is lost."""
    jobs = Jobs(address)
    jobs.stop(name)
    try:
        hint = f"go on with: tlpo submit --resume {jobs.folder(name)}{_there(address)}"
    except UserError:  # not of `tlpo submit`: its log says where it is
        hint = "its last line says how to go on"
    console.print(f"job {name} has ended; {hint}", soft_wrap=True)


def _there(address: str | None) -> str:
    return f" --address {address}" if address else ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
