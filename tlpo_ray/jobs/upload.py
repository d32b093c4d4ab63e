"""What a job takes along to a cluster: one configuration file, and the files of this machine that it names."""

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
MAX_UPLOAD_MIB = 100
"""Largest size of the files that are uploaded with a job; Ray does not accept more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run as a job of a cluster.

    Example: ``Job(name="qwen3-8b-ko", command="exec tlpo train run.yaml", folder=Path("/shared/runs/qwen3-8b-ko"),
    upload=Path("/tmp/tlpo-submit-x"))``
    """

    name: str
    """Name of the run."""
    command: str
    """Shell command, executed in the uploaded folder."""
    folder: Path
    """Run folder, as the cluster sees it."""
    upload: Path | None = None
    """Folder of this machine that is uploaded; the job starts in it."""


def new_run(name: str, overrides: Sequence[str], upload: Path) -> Job:
    """Return the job of a new run, and put the files that it needs from this machine into `upload`.

    Files that the configuration names by a relative path are uploaded and stored in the run folder. Absolute paths and
    names on the hub refer to the cluster.

    Args:
        name: YAML file or preset, or `quickstart`.
        overrides: `key=value` settings.
        upload: Empty folder of this machine.

    Raises:
        ConfigError: A setting is wrong.
        UserError: The configuration names a file that cannot be uploaded, or a run folder that the cluster cannot see.
    """
    if name == QUICKSTART:
        return _new_quickstart(overrides, upload)
    config = load_config(name, overrides)
    folder = _require_absolute(config.folder)
    if not Path(config.model.path).is_absolute() and Path(config.model.path).is_dir():
        raise UserError(
            f"model.path {config.model.path} is a folder of this machine: copy it to where the cluster sees it and "
            f"give the absolute path there"
        )
    inputs = upload / INPUTS
    config = _with_inputs(config, inputs, folder / INPUTS)
    (upload / CONFIG).write_text(dump_config(config), encoding="utf-8")
    run_config, kept = shlex.quote(str(folder / "config.yaml")), shlex.quote(str(folder / INPUTS))
    # The folder of another run keeps its inputs: `tlpo train` will refuse it, and nothing may have changed until then.
    copy = f"{{ [ -e {run_config} ] || {{ mkdir -p {kept} && cp -r {INPUTS}/. {kept}/; }}; }} && "
    first = copy if inputs.exists() else ""
    return Job(name=config.name, command=f"{first}exec tlpo train {CONFIG}", folder=folder, upload=upload)


def _new_quickstart(overrides: Sequence[str], upload: Path) -> Job:
    config = load_config(QUICKSTART, ["model.path=.", *overrides])
    folder = _require_absolute(config.folder)
    if _with_inputs(config, upload / INPUTS, folder) != config:
        raise UserError(
            "files of this machine are not uploaded with a quickstart: copy what data.prompts and "
            "detector.settings.file name to where the cluster sees it and give the absolute path there"
        )
    return Job(name=config.name, command=shlex.join(["tlpo", "quickstart", *overrides]), folder=folder)


def resumed_run(name: str | None, folder: Path, overrides: Sequence[str]) -> Job:
    """Return the job that resumes a run, or a quickstart.

    Args:
        name: What was typed before the overrides: an override, the quickstart's name, or nothing.
        folder: Run folder, as the cluster sees it.
        overrides: `key=value` settings.

    Raises:
        UserError: `folder` is relative.
    """
    settings = [*([name] if name and name != QUICKSTART else []), *overrides]
    command = shlex.join(["tlpo", "train", "--resume", str(_require_absolute(folder)), *settings])
    return Job(name=folder.name, command=f"exec {command}", folder=folder)


def _require_absolute(folder: Path) -> Path:
    if not folder.is_absolute():
        raise UserError(
            f"folder {folder} is relative: a job needs a run folder that all nodes see, e.g. folder=/shared/{folder}"
        )
    return folder


def _with_inputs(config: RunConfig, inputs: Path, remote_inputs: Path) -> RunConfig:
    """Copy the configuration's relative files into `inputs`, and name them as they will be stored on the cluster."""
    data, detector = config.data, config.detector
    if remote := _copy_input(data.prompts, inputs / "data", remote_inputs / "data"):
        data = data.model_copy(update={"prompts": remote})
    settings: dict[str, Any] = dict(detector.settings)
    if "file" in settings:
        remote = _copy_input(str(settings["file"]), inputs / "detector", remote_inputs / "detector")
        if remote:
            detector = detector.model_copy(update={"settings": settings | {"file": remote}})
    return config.model_copy(update={"data": data, "detector": detector})


def _copy_input(name: str, inputs: Path, remote_inputs: Path) -> str | None:
    """Copy a file or folder into `inputs`; return its path on the cluster, or None if `name` is not one of ours."""
    local = Path(name)
    if not name or local.is_absolute() or not local.exists():
        return None
    files = [local] if local.is_file() else [file for file in local.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > MAX_UPLOAD_MIB * MIB:
        raise UserError(
            f"{name} has {size / MIB:,.0f} MiB, and at most {MAX_UPLOAD_MIB} are uploaded with a job: copy it to where "
            f"the cluster sees it and give the absolute path there"
        )
    inputs.mkdir(parents=True, exist_ok=True)
    if local.is_dir():
        shutil.copytree(local, inputs / local.name)
    else:
        shutil.copyfile(local, inputs / local.name)
    return str(remote_inputs / local.name)
