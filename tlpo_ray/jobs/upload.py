"""What a job takes with it to a cluster: one configuration file, and files of this machine that it names."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.config.run import MIB, RunConfig
from tlpo_ray.errors import UserError

QUICKSTART = "quickstart"
CONFIG, INPUTS = "run.yaml", "inputs"
MOST_MIB = 100
"""Of files that travel with a job: Ray takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a cluster is asked to run."""

    name: str
    command: str
    """For a shell, in the uploaded folder."""
    folder: Path
    """Of the run, as the cluster sees it."""
    upload: Path | None = None
    """Folder of this machine that the job is started in."""


def new_run(name: str, overrides: Sequence[str], upload: Path) -> Job:
    """A run by a configuration file or preset; what it needs of this machine is put into `upload`.

    Files that the configuration names by a relative path are uploaded, and lie in the run folder from then on. Absolute
    paths and names on the hub are the cluster's.

    Raises:
        ConfigError: a setting is wrong.
        UserError: it names something that cannot travel, or the run folder is not for the cluster to see.
    """
    if name == QUICKSTART:
        config = load_config(name, ["model.path=.", *overrides])
        folder = _shared(config.folder)
        if _with_inputs(config, upload / INPUTS, folder) != config:
            raise UserError(
                "no files of this machine travel with a quickstart: copy what data.prompts and detector.settings.file "
                "name to where the cluster sees it and give the absolute path there"
            )
        return Job(name=config.name, command=shlex.join(["tlpo", "quickstart", *overrides]), folder=folder)
    config = load_config(name, overrides)
    folder = _shared(config.folder)
    if not Path(config.model.path).is_absolute() and Path(config.model.path).is_dir():
        raise UserError(
            f"model.path {config.model.path} is a folder of this machine: copy it to where the cluster sees it and "
            f"give the absolute path there"
        )
    inputs = upload / INPUTS
    config = _with_inputs(config, inputs, folder / INPUTS)
    (upload / CONFIG).write_text(dump_config(config), encoding="utf-8")
    made, kept = shlex.quote(str(folder / "config.yaml")), shlex.quote(str(folder / INPUTS))
    # Where a run is already, its inputs stay as they are: `tlpo train` refuses.
    first = f"{{ [ -e {made} ] || {{ mkdir -p {kept} && cp -r {INPUTS}/. {kept}/; }}; }} && " if inputs.exists() else ""
    return Job(name=config.name, command=f"{first}exec tlpo train {CONFIG}", folder=folder, upload=upload)


def resumed_run(name: str | None, folder: Path, overrides: Sequence[str]) -> Job:
    """A run on the cluster, or a quickstart, that goes on where it was."""
    settings = [*([name] if name and name != QUICKSTART else []), *overrides]
    command = shlex.join(["tlpo", "train", "--resume", str(_shared(folder)), *settings])
    return Job(name=folder.name, command=f"exec {command}", folder=folder)


def _shared(folder: Path) -> Path:
    if not folder.is_absolute():
        raise UserError(
            f"folder {folder} is relative: a job needs a run folder that all nodes see, e.g. folder=/shared/{folder}"
        )
    return folder


def _with_inputs(config: RunConfig, inputs: Path, there: Path) -> RunConfig:
    """The configuration with its relative files put into `inputs` and named as they will lie on the cluster."""
    data, detector = config.data, config.detector
    if moved := _taken(data.prompts, inputs / "data", there / "data"):
        data = data.model_copy(update={"prompts": moved})
    settings: dict[str, Any] = dict(detector.settings)
    if "file" in settings and (moved := _taken(str(settings["file"]), inputs / "detector", there / "detector")):
        detector = detector.model_copy(update={"settings": settings | {"file": moved}})
    return config.model_copy(update={"data": data, "detector": detector})


def _taken(name: str, inputs: Path, there: Path) -> str | None:
    """Where a file or folder of this machine will lie; None if the name is not one."""
    here = Path(name)
    if not name or here.is_absolute() or not here.exists():
        return None
    files = [here] if here.is_file() else [file for file in here.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > MOST_MIB * MIB:
        raise UserError(
            f"{name} has {size / MIB:,.0f} MiB, and at most {MOST_MIB} travel with a job: copy it to where the cluster "
            f"sees it and give the absolute path there"
        )
    inputs.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.copytree(here, inputs / here.name)
    else:
        shutil.copyfile(here, inputs / here.name)
    return str(there / here.name)
