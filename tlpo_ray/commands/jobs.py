"""`tlpo submit`, `tlpo logs` and `tlpo stop` on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tlpo_ray.commands.display import console
from tlpo_ray.errors import DeadlineError, UserError
from tlpo_ray.jobs.ray_shell import Jobs
from tlpo_ray.jobs.upload import new_run, resumed_run
from tlpo_ray.stopping import stop_on_signal, temporary_folder

UNREACHABLE = 3
"""Exit code if the cluster does not answer any more; the job may still be running."""


def submit_command(
    name: str | None, overrides: Sequence[str], address: str | None, resume: Path | None, detach: bool
) -> int:
    """Start a run on a cluster and, unless `detach`, show its output until it ends; return its exit code.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    with temporary_folder("tlpo-submit-") as upload:
        if resume is not None:
            job = resumed_run(name, resume, overrides)
        else:
            assert name is not None
            job = new_run(name, overrides, upload)
        jobs = Jobs(address)
        with stop_on_signal(
            lambda signal: f"stopped by {signal}; the job may have been submitted, the dashboard lists it"
        ):
            job_name = jobs.submit(job)
    option = _address_option(address)
    console.print(
        f"job {job_name}, run folder {job.folder}\n[dim]tlpo status {job_name}{option}\ntlpo logs {job_name}{option}\n"
        f"tlpo scale {job_name} --rollout-actors N{option}\ntlpo stop {job_name}{option}[/dim]",
        soft_wrap=True,
    )
    return 0 if detach else _follow(jobs, job_name, address)


def logs_command(name: str, address: str | None) -> int:
    """Show a job's output from its beginning until it ends; return its exit code."""
    return _follow(Jobs(address), name, address)


def _follow(jobs: Jobs, name: str, address: str | None) -> int:
    option = _address_option(address)
    try:
        with stop_on_signal(
            lambda signal: (
                f"stopped by {signal}; job {name} continues, tlpo logs {name}{option} follows it, "
                f"tlpo stop {name}{option} stops it"
            )
        ):
            code = jobs.follow(name, _write)
    except DeadlineError as error:
        sys.stderr.write(f"tlpo: {error}; job {name} may still be running: tlpo logs {name}{option}\n")
        return UNREACHABLE
    console.print(f"job {name} has ended, exit code {code}", soft_wrap=True)
    return code


def stop_command(name: str, address: str | None) -> None:
    """Stop a run; nothing of it is lost."""
    jobs, option = Jobs(address), _address_option(address)
    with stop_on_signal(
        lambda signal: f"stopped by {signal}; job {name} may still be running, tlpo logs {name}{option} follows it"
    ):
        jobs.stop(name)
    try:
        hint = f"resume with: tlpo submit --resume {jobs.folder(name)}{option}"
    except UserError:  # not started by `tlpo submit`, so its folder is unknown
        hint = "its last line says how to resume it"
    console.print(f"job {name} has ended; {hint}", soft_wrap=True)


def _address_option(address: str | None) -> str:
    return f" --address {address}" if address else ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
