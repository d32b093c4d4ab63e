"""Commands about runs that go on, here or on a cluster: `tlpo submit`, `logs`, `status`, `scale`, `stop`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlpo_ray.cli.options import Overrides

cluster = typer.Typer()
Address = Annotated[
    str | None,
    typer.Option(help="Dashboard of the cluster that the run is on, e.g. http://127.0.0.1:8265; none: this machine."),
]
JobsAddress = Annotated[
    str | None,
    typer.Option(help="Dashboard of the cluster, e.g. http://127.0.0.1:8265; default RAY_API_SERVER_ADDRESS."),
]
JobName = Annotated[str, typer.Argument(help="Name of the job, as `tlpo submit` gave it.")]
Target = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run; with --address also the name of its job.")]


@cluster.command()
def submit(
    config: Annotated[str | None, typer.Argument(help="A YAML file, the name of a preset, or quickstart.")] = None,
    overrides: Overrides = None,
    address: JobsAddress = None,
    resume: Annotated[Path | None, typer.Option(help="Folder, on the cluster, of a run to go on with.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not stay until it ends.")] = False,
) -> None:
    """Start a run as a job of a Ray cluster; shows its output and ends with its exit code."""
    from tlpo_ray.commands.jobs import submit_command
    from tlpo_ray.errors import UserError

    if config is None and resume is None:
        raise UserError("tlpo submit needs a YAML file, a preset or quickstart, or --resume FOLDER")
    code = submit_command(config, overrides or [], address, resume, detach)
    if code:
        raise typer.Exit(code)


@cluster.command()
def doctor(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file or preset: its model, cluster and folder too.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Check this machine, or a configuration on it, and say how to mend what is wrong; exit code 1 if something is."""
    from tlpo_ray.commands.doctor import doctor_command

    if not doctor_command(config, overrides or []):
        raise typer.Exit(1)


@cluster.command()
def status(
    run: Target,
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line for programs.")] = False,
) -> None:
    """Show where a run stands: actors, policy version, queue, prompts, speed, time left."""
    from tlpo_ray.commands.status import status_command

    status_command(run, address, as_json)


@cluster.command()
def scale(
    run: Target,
    rollout_actors: Annotated[int, typer.Option(min=1, help="How many there are to be.")],
    address: Address = None,
) -> None:
    """Change the number of rollout actors of a run while it goes on; the learner does not notice."""
    from tlpo_ray.commands.scale import scale_command

    scale_command(run, rollout_actors, address)


@cluster.command()
def logs(job: JobName, address: JobsAddress = None) -> None:
    """Show a job's output from its beginning, as it comes; ends with the job's exit code."""
    from tlpo_ray.commands.jobs import logs_command

    code = logs_command(job, address)
    if code:
        raise typer.Exit(code)


@cluster.command()
def stop(job: JobName, address: JobsAddress = None) -> None:
    """End a run that was submitted; nothing of it is lost, and it can go on."""
    from tlpo_ray.commands.jobs import stop_command

    stop_command(job, address)
