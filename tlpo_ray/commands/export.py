"""`tlpo export` on the terminal."""

from __future__ import annotations

from pathlib import Path

from tlpo_ray.commands.display import console, step
from tlpo_ray.errors import UserError
from tlpo_ray.run.export import export_model, push_to_hub


def export_command(run: Path, output: Path | None, adapter: bool, push: str | None, public: bool) -> None:
    """Copy the model of a run to `output`, upload it to the hub as `push`, or do both.

    Raises:
        UserError: Neither was requested, the run has no such model, or `output` exists.
        ResourceError: The folder cannot be written, or the hub does not accept the upload.
    """
    if output is None and push is None:
        raise UserError("tlpo export needs a folder to write to, or --push NAME")
    if output is not None:
        model = export_model(run, output, adapter=adapter)
        console.print(f"{model.name} written to {output}", soft_wrap=True)
    if push is not None:
        with step(f"{push}, {'public' if public else 'private'}, on the hub"):
            push_to_hub(run, push, adapter=adapter, public=public)
