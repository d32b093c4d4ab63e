"""The Ray cluster of a run: join or start one, check that it is large enough, leave it clean."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import ray
from ray._private import ray_constants

from tlpo_ray.config.run import MIB, ClusterConfig, RunConfig
from tlpo_ray.flow.errors import ResourceError, first_line

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ASK_S = 2.0
"""How long a dashboard may take to answer."""
KNOCK_S = 10.0
"""How long the port of a cluster may take to answer."""
LOCAL_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keeps Ray from warning about processes without GPUs
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a run asks of its cluster.

    Example: 6 rollout actors with 1 GPU each and 2 learner ranks with 1 GPU each need 8 GPUs.
    """

    rollout: float
    learner: float

    @property
    def total(self) -> float:
        return self.rollout + self.learner


def demands(config: RunConfig) -> dict[str, Demand]:
    """CPUs and GPUs the run needs, by Ray's resource names."""
    cluster, rollout, ranks = config.cluster, config.rollout, config.learner.ranks
    return {
        "GPU": Demand(
            rollout=rollout.actors * cluster.gpus_per_rollout_actor * rollout.tensor_parallel,
            learner=ranks * cluster.gpus_per_learner_rank,
        ),
        "CPU": Demand(
            rollout=rollout.actors * cluster.cpus_per_rollout_actor, learner=ranks * cluster.cpus_per_learner_rank
        ),
    }


def require(asked: Mapping[str, Demand], found: Mapping[str, float]) -> None:
    """Check the whole demand before anything starts.

    Raises:
        ResourceError: names all that is short: what was asked for, what there is, and which keys to lower.
    """
    short = [
        f"{demand.total:g} {resource}s (rollout {demand.rollout:g} + learner {demand.learner:g}), the cluster has "
        f"{found.get(resource, 0.0):g}"
        for resource, demand in asked.items()
        if demand.total > found.get(resource, 0.0)
    ]
    if short:
        raise ResourceError(
            f"the run needs {'; and '.join(short)}: lower rollout.actors, learner.ranks or the cluster.* shares of an "
            f"actor or rank, or add nodes (cluster.autoscales=true waits for them)"
        )


@contextmanager
def connected(cluster: ClusterConfig, asked: Mapping[str, Demand]) -> Iterator[None]:
    """A Ray cluster: the one at `cluster.address`, the one of a Ray job, or one started here.

    Raises:
        ResourceError: the cluster is too small and does not grow, or there is none at that address.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address:
        _join(address)
    else:
        _start_here(cluster)
    try:
        if not cluster.autoscales:
            require(asked, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        _knock(address)
    except OSError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address} ({first_line(error)}): start it or unset cluster.address, RAY_ADDRESS"
        ) from error
    try:
        with _signals_kept():
            context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ResourceError(
            f"the Ray cluster at {address} does not let this process in: is it of this version of Ray "
            f"({ray.__version__}), and is the token right (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN)?"
        ) from error
    warning = open_dashboard(context.dashboard_url or "")
    if warning is not None:
        logger.warning(warning)


def open_dashboard(url: str) -> str | None:
    """What to warn of if a dashboard, and with it the port for jobs, lets anybody in; None if it does not.

    Args:
        url: host and port.
    """
    host = url.rpartition(":")[0]
    if not url or host in LOOPBACK:
        return None
    try:
        with urllib.request.urlopen(f"http://{url}/api/version", timeout=ASK_S):
            pass
    except OSError:  # refused, for want of a token or else
        return None
    return (
        f"anybody who reaches {url} can run code on this cluster: its dashboard asks for no token; start Ray with "
        f"RAY_AUTH_MODE=token (deploy/README.md)"
    )


def _knock(address: str) -> None:
    """Ray itself would try for minutes where nobody listens, or something else than a cluster does.

    Raises:
        OSError: nobody listens, or what listens does not speak gRPC as a cluster does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:  # "auto", ray://…
        return
    socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    if os.environ.get("RAY_USE_TLS", "0") == "0":
        with grpc.insecure_channel(address) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=KNOCK_S)
            except grpc.FutureTimeoutError as error:
                raise OSError("the port is open, but what listens is no Ray head") from error


def _start_here(cluster: ClusterConfig) -> None:
    for name, value in LOCAL_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        # A token of this run's own: without one, Ray would write a token file into the home folder. Ray turns its
        # token mode on by itself; RAY_AUTH_MODE would be read too late here, it counts when ray is imported.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    store = cluster.object_store_mib
    with _signals_kept(), _on_loopback():
        ray.init(
            address="local",
            include_dashboard=cluster.dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=store * MIB if store else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Whatever Ray starts meanwhile can be reached from this machine only, as Ray itself does on a Mac."""
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; whoever asked to be told of it before (`resume.stoppable`) is told again."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
