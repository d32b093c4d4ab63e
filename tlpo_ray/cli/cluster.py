"""Commands about active runs, here or on a cluster: submit, logs, status, scale, drain, stop, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlpo_ray.cli.options import Overrides

cluster = typer.Typer()
Address = Annotated[
    str | None,
    typer.Option(help="Dashboard of the cluster of the run, e.g. http://127.0.0.1:8265; default: this machine."),
]
JobsAddress = Annotated[
    str | None,
    typer.Option(help="Dashboard of the cluster, e.g. http://127.0.0.1:8265; default: RAY_API_SERVER_ADDRESS."),
]
JobName = Annotated[str, typer.Argument(help="Name of the job, as printed by `tlpo submit`.")]
Target = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or with --address the name of its job.")]


@cluster.command()
def submit(
    config: Annotated[str | None, typer.Argument(help="A YAML file, the name of a preset, or quickstart.")] = None,
    overrides: Overrides = None,
    address: JobsAddress = None,
    resume: Annotated[Path | None, typer.Option(help="Folder, on the cluster, of a run to resume.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until the run ends.")] = False,
) -> None:
    """Start a run as a job of a Ray cluster, show its output, and end with its exit code."""
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
        str | None,
        typer.Argument(help="A YAML file or preset: its model, prompts, cluster and folder are checked, too."),
    ] = None,
    overrides: Overrides = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask", help="Compare two engines to find out whether confusion comes from the model or the backend."
        ),
    ] = False,
    answers: Annotated[int, typer.Option(min=1, help="With --ask: number of prompts.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="With --ask: print one line of JSON.")] = False,
) -> None:
    """Check this machine, or a configuration on it, and say how to fix problems; exit code 1 if there are any."""
    from tlpo_ray.commands.doctor import ask_command, doctor_command
    from tlpo_ray.errors import UserError

    if ask and config is None:
        raise UserError("--ask needs a YAML file or a preset: the run whose prompts and model are used")
    if not ask and (as_json or answers != 64):
        raise UserError("--answers and --json go with --ask")
    passed = (
        ask_command(config or "", overrides or [], answers, as_json) if ask else doctor_command(config, overrides or [])
    )
    if not passed:
        raise typer.Exit(1)


@cluster.command()
def status(
    run: Target,
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    post_mortem: Annotated[
        bool, typer.Option("--post-mortem", help="Show how it ended, what happened, and what its processes printed.")
    ] = False,
) -> None:
    """Show the state of a run: actors, policy version, queue, prompts, speed, time left."""
    if post_mortem:
        from tlpo_ray.commands.post_mortem import post_mortem_command

        post_mortem_command(run, address, as_json)
    else:
        from tlpo_ray.commands.status import status_command

        status_command(run, address, as_json)


@cluster.command()
def scale(
    run: Target,
    rollout_actors: Annotated[int, typer.Option(min=1, help="The new number of rollout actors.")],
    address: Address = None,
) -> None:
    """Change the number of rollout actors of an active run; the learner is not affected."""
    from tlpo_ray.commands.scale import scale_command

    scale_command(run, rollout_actors, address)


@cluster.command()
def drain(
    node: Annotated[
        str | None, typer.Option(metavar="ID", help="Ray's id of the node, as in `ray list nodes`; default: this one.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Time until the node is lost, in seconds.")] = 30,
) -> None:
    """Announce that a node of a Ray cluster will be lost, and wait until runs have left it: before it shuts down.

    The cluster is the one at RAY_ADDRESS, or else the one that this machine belongs to.
    """
    from tlpo_ray.commands.drain import drain_command

    drain_command(node, seconds)


@cluster.command()
def logs(job: JobName, address: JobsAddress = None) -> None:
    """Show a job's output from its beginning until it ends, and end with its exit code."""
    from tlpo_ray.commands.jobs import logs_command

    code = logs_command(job, address)
    if code:
        raise typer.Exit(code)


@cluster.command()
def stop(job: JobName, address: JobsAddress = None) -> None:
    """Stop a submitted run; nothing of it is lost, and it can be resumed."""
    from tlpo_ray.commands.jobs import stop_command

    stop_command(job, address)
