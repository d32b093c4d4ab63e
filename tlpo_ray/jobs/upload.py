"""What a job takes along to a cluster: one configuration file, and the files of this machine that it names."""

from __future__ import annotations

import gzip
import hashlib
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.config.run import MIB, RunConfig
from tlpo_ray.data.folders import README, check_file, files_in, is_data
from tlpo_ray.data.readers import source_files
from tlpo_ray.data.unpack import read_errors
from tlpo_ray.errors import UserError

QUICKSTART = "quickstart"
CONFIG, INPUTS, ARCHIVE = "run.yaml", "inputs", "inputs.tar.gz"
MAX_UPLOAD_MIB = 99
"""Largest size of the files that are uploaded with a job, in MiB; Ray's dashboard accepts requests of 100."""
DATA, DETECTOR = "data", "detector"
"""Folders of the archive: the prompts, and the file of the detector."""


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

    They travel as one archive with a checksum. Ray leaves files out of what it uploads: those that a `.gitignore` or
    `.rayignore` names, and `.git`, `venv` and other folders.

    Args:
        name: YAML file or preset, or `quickstart`.
        overrides: `key=value` settings.
        upload: Empty folder of this machine.

    Raises:
        ConfigError: A setting is wrong.
        UserError: The configuration names a file that cannot be uploaded, or a run folder that the cluster cannot see.
    """
    if name == QUICKSTART:
        return _new_quickstart(overrides)
    config = load_config(name, overrides)
    folder = _require_absolute(config.folder)
    if not Path(config.model.path).is_absolute() and Path(config.model.path).is_dir():
        raise UserError(
            f"model.path {config.model.path} is a folder of this machine: copy it to where the cluster sees it and "
            f"give the absolute path there"
        )
    inputs = _inputs(config)
    command = f"exec tlpo train {CONFIG}"
    if inputs:
        digest = _write_archive(inputs, upload / ARCHIVE)
        # A folder of its own for each content: what an earlier job that has failed left there is not read.
        kept = folder / INPUTS / digest[:12]
        config = _with_inputs(config, inputs, kept)
        command = f"{_unpack_command(digest, folder, kept)} && {command}"
    (upload / CONFIG).write_text(dump_config(config), encoding="utf-8")
    return Job(name=config.name, command=command, folder=folder, upload=upload)


def _new_quickstart(overrides: Sequence[str]) -> Job:
    config = load_config(QUICKSTART, ["model.path=.", *overrides])
    folder = _require_absolute(config.folder)
    if _inputs(config):
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


def _unpack_command(digest: str, folder: Path, kept: Path) -> str:
    """Return the shell command that checks the archive and unpacks it into `kept`.

    The folder of another run is not written to: `tlpo train` will refuse it, and nothing may have changed until then.
    """
    run_config, target = shlex.quote(str(folder / "config.yaml")), shlex.quote(str(kept))
    damaged = shlex.quote(
        f"tlpo: {ARCHIVE}, which holds the prompts, did not arrive on the cluster as it was sent: submit the run "
        f"again, or copy the files to where the cluster sees them and give the absolute path there"
    )
    full = shlex.quote(f"tlpo: the prompts cannot be unpacked into {kept}: free space there, or make it writable")
    return (
        f"{{ [ -e {run_config} ] || {{ "
        f"{{ echo '{digest}  {ARCHIVE}' | sha256sum -c - >/dev/null 2>&1 || {{ echo {damaged} >&2; exit 2; }}; }}; "
        # -m and -o: the files belong to the user of the job, and clocks of two machines may differ.
        f"{{ mkdir -p {target} && tar -xzmof {ARCHIVE} -C {target}; }} || {{ echo {full} >&2; exit 2; }}; }}; }}"
    )


def _inputs(config: RunConfig) -> Mapping[str, Path]:
    """Return the files and folders of this machine that a configuration names, by their folder in the archive."""
    named = {DATA: config.data.prompts, DETECTOR: str(config.detector.settings.get("file") or "")}
    found = {key: Path(name) for key, name in named.items() if name and not Path(name).is_absolute()}
    inputs = {key: path for key, path in found.items() if path.exists() or path.is_symlink()}
    if DATA in found:  # what is missing is missing here, too
        source_files(config.data.prompts, config.data.subset, config.data.split)
    if DETECTOR in inputs:
        check_file(inputs[DETECTOR])
    return inputs


def _with_inputs(config: RunConfig, inputs: Mapping[str, Path], kept: Path) -> RunConfig:
    """Return the configuration with its relative files named as they will be stored on the cluster."""
    remote = {key: str(kept / key / _own_name(path)) for key, path in inputs.items()}
    data, detector = config.data, config.detector
    if DATA in remote:
        data = data.model_copy(update={"prompts": remote[DATA]})
    if DETECTOR in remote:
        settings: dict[str, Any] = {**detector.settings, "file": remote[DETECTOR]}
        detector = detector.model_copy(update={"settings": settings})
    return config.model_copy(update={"data": data, "detector": detector})


def _write_archive(inputs: Mapping[str, Path], archive: Path) -> str:
    """Write all inputs into one archive; return its SHA-256. The same files give the same archive.

    Raises:
        UserError: The files are too large for an upload, or cannot be read.
    """
    members = list(_members(inputs))
    size = sum(file.stat().st_size for _, file in members)
    if size > MAX_UPLOAD_MIB * MIB:
        names = " and ".join(map(str, inputs.values()))
        raise UserError(
            f"{names}: {size / MIB:,.0f} MiB, and at most {MAX_UPLOAD_MIB} are uploaded with a job: copy the files to "
            f"where the cluster sees them and give the absolute path there"
        )
    with (
        gzip.GzipFile(archive, "wb", mtime=0) as packed,
        # Of all formats this is the one that every tar unpacks, whatever the length and the letters of a name.
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, dereference=True) as tar,
    ):
        for name, file in members:
            with read_errors(str(file)):
                tar.add(file, name, recursive=False, filter=_plain)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def _members(inputs: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the path of every file that a run may read."""
    for key, path in inputs.items():
        root = Path(key) / _own_name(path)
        files = files_in(path, lambda file: is_data(file) or file.name == README) if path.is_dir() else [path]
        for file in files:
            yield str(root / file.relative_to(path)), file


def _own_name(path: Path) -> str:
    """Return the last part of a path, also of `.` and `..`; a link keeps its name, whose end says how it is read."""
    return path.name if path.name not in ("", "..") else path.resolve().name


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member of the archive without what is particular to this machine."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
