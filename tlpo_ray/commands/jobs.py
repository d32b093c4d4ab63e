"""`tlpo submit` and `tlpo stop`: runs as jobs of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tlpo_ray.commands.display import console
from tlpo_ray.jobs.ray_shell import Jobs
from tlpo_ray.jobs.upload import new_run, resumed_run


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
    there = f" --address {address}" if address else ""
    console.print(
        f"job {started}, run folder {job.folder}\n[dim]tlpo status {started}{there}\n"
        f"tlpo scale {started} --rollout-actors N{there}\ntlpo stop {started}{there}[/dim]",
        soft_wrap=True,
    )
    if detach:
        return 0
    try:
        code = jobs.follow(started, _write)
    except KeyboardInterrupt:
        console.print(f"\njob {started} goes on; to end it: tlpo stop {started}{there}", soft_wrap=True)
        raise
    console.print(f"job {started} {jobs.state(started).lower()}, exit code {code}", soft_wrap=True)
    return code


def stop_command(name: str, address: str | None) -> None:
    """End a run; nothing of it is lost."""
    jobs = Jobs(address)
    folder = jobs.folder(name)
    jobs.stop(name)
    there = f" --address {address}" if address else ""
    console.print(f"job {name} has ended; go on with: tlpo submit --resume {folder}{there}", soft_wrap=True)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
