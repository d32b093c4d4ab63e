"""The Ray cluster of a run: join or start one, check that it is large enough, leave it clean."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

import grpc
import ray
from ray._private import ray_constants

from tlpo_ray.cluster.placement import bundle
from tlpo_ray.config.run import MIB, ClusterConfig, RunConfig
from tlpo_ray.errors import ResourceError, first_line

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ASK_S = 2.0
"""How long a dashboard may take to answer."""
KNOCK_S = 10.0
"""How long the port of a cluster may take to answer."""
LOCAL_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keeps Ray from warning about processes without GPUs
    "RAY_task_events_max_num_task_in_gcs": "10000",  # as many as the dashboard shows, a tenth of the default
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a run asks of its cluster.

    Example: 6 rollout actors with 1 GPU each and 2 learner ranks with 1 GPU each need 8 GPUs.
    """

    rollout: float
    learner: float
    actors: int = 1
    """Among whom `rollout` is divided."""

    @property
    def total(self) -> float:
        return self.rollout + self.learner


def demands(config: RunConfig) -> dict[str, Demand]:
    """CPUs and GPUs the run needs, by Ray's resource names."""
    cluster, rollout, ranks = config.cluster, config.rollout, config.learner.num_ranks
    return {
        "GPU": Demand(
            rollout=rollout.num_actors * cluster.gpus_per_rollout_actor * rollout.tensor_parallel,
            learner=ranks * cluster.gpus_per_learner_rank,
            actors=rollout.num_actors,
        ),
        "CPU": Demand(
            rollout=rollout.num_actors * cluster.cpus_per_rollout_actor,
            learner=ranks * cluster.cpus_per_learner_rank,
            actors=rollout.num_actors,
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
        most = min(_most_actors(demand, found.get(resource, 0.0)) for resource, demand in asked.items())
        fits = f" (rollout.num_actors={most} fits)" if most else ""
        raise ResourceError(
            f"the run needs {'; and '.join(short)}: lower rollout.num_actors{fits}, learner.num_ranks or the cluster.* "
            f"shares of an actor or rank, or add nodes (cluster.autoscales=true waits for them)"
        )


def _most_actors(demand: Demand, found: float) -> int:
    """Beside the learner ranks."""
    each = demand.rollout / demand.actors
    return max(0, int((found - demand.learner) / each)) if each else demand.actors


def require_places(config: RunConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Check that each rollout actor and each learner rank finds a node that has all it asks for.

    Args:
        nodes: resources of each, by Ray's names.

    Raises:
        ResourceError: what one of the two does not find.
    """
    cluster, rollout = config.cluster, config.rollout
    gpus = cluster.gpus_per_rollout_actor * rollout.tensor_parallel
    actor = bundle(cluster.cpus_per_rollout_actor, gpus, cluster.rollout_resource)
    rank = bundle(cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank, cluster.learner_resource)
    for count, who, key, need, mark in (
        (rollout.num_actors, "rollout actors", "rollout", actor, cluster.rollout_resource),
        (config.learner.num_ranks, "learner ranks", "learner", rank, cluster.learner_resource),
    ):
        theirs = [node for node in nodes if mark is None or node.get(mark)]
        if not theirs:
            raise ResourceError(
                f"no node has the resource {mark}, which {who} ask for: start such nodes with ray start --resources, "
                f"or leave out cluster.{key}_resource"
            )
        room = sum(min(_times(name, amount, node) for name, amount in need.items()) for node in theirs)
        if room < count:
            each = " and ".join(f"{amount:g} {name}s" for name, amount in need.items() if name != mark)
            raise ResourceError(
                f"the nodes{f' with the resource {mark}' if mark else ''} have room for {room} of {count} {who}, each "
                f"of {each} on one node: add nodes, or set {key}.{who.split()[1]}={room}"
            )


def _times(name: str, amount: float, node: Mapping[str, float]) -> int:
    """How often a node has that amount; a part of a GPU is all of the same one."""
    there = node.get(name, 0.0)
    return int(there) * int(1 / amount) if name == "GPU" and amount < 1 else int(there / amount)


@contextmanager
def ready_for(config: RunConfig) -> Iterator[None]:
    """The Ray cluster of a run, `connected`, in which all of its actors and ranks find a place.

    Raises:
        ResourceError: they do not, and it does not grow; or there is no cluster.
    """
    with connected(config.cluster, demands(config)):
        if not config.cluster.autoscales:
            require_places(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        yield


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
    except (OSError, HTTPException):  # refused, for want of a token or else
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
